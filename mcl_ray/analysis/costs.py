"""Costs of a configuration: the figures of its runs that a sweep can minimise, averaged over the runs.

The sweep's spec selects the costs that are minimised; labels and units are in `mcl_ray.reports.labels`.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from mcl_ray.config.scoring import COSTS


def mean_costs(runs: Sequence[Mapping[str, Any]], times: Mapping[str, float]) -> dict[str, float]:
    """Return cost → mean over the runs, for every cost that is known of all of them.

    Args:
        runs: Rows of the table of runs.
        times: Run → seconds, from `mcl_ray.results.queries.training_times`.
    """
    known = [{**run, "training_time_s": times.get(run["run_id"])} for run in runs]
    columns = {name: [run[name] for run in known] for name in COSTS}
    return {
        name: statistics.fmean(values)
        for name, values in columns.items()
        if values and all(v is not None for v in values)
    }
