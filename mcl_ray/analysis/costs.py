"""What a configuration costs: the figures of its runs that a sweep can minimise, their means, their units.

Which of them a sweep minimises is its spec's to say.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcl_ray.config.scoring import COSTS

LABELS = {
    "parameters": "Parameters of the cohort",
    "multiply_adds": "Multiply-adds per image, cohort",
    "training_time_s": "Training time of a run",
}
SHORT_LABELS = {"parameters": "params", "multiply_adds": "mult-adds", "training_time_s": "training time"}


@dataclass(frozen=True)
class Unit:
    """What a cost is counted in."""

    size: float
    symbol: str
    name: str


COUNTS = (Unit(1e9, "G", "billions"), Unit(1e6, "M", "millions"), Unit(1e3, "k", "thousands"), Unit(1.0, "", ""))
TIMES = (Unit(3600.0, "h", "h"), Unit(60.0, "min", "min"), Unit(1.0, "s", "s"))


def mean_costs(runs: Sequence[Mapping[str, Any]], times: Mapping[str, float]) -> dict[str, float]:
    """The mean over runs of every cost that is known of all of them; `times` is `series.training_times`."""
    known = [{**run, "training_time_s": times.get(run["run_id"])} for run in runs]
    columns = {name: [run[name] for run in known] for name in COSTS}
    return {
        name: statistics.fmean(values)
        for name, values in columns.items()
        if values and all(v is not None for v in values)
    }


def unit_of(cost: str, values: Iterable[float]) -> Unit:
    """The unit in which the largest of these values is a readable number."""
    largest = max(values, default=0.0)
    units, least = (TIMES, 2.0) if cost == "training_time_s" else (COUNTS, 1.0)
    return next((unit for unit in units if largest >= least * unit.size), units[-1])


def short_label(cost: str, unit: Unit) -> str:
    """For a column: `params, M`."""
    return f"{SHORT_LABELS[cost]}, {unit.symbol}" if unit.symbol else SHORT_LABELS[cost]


def label(cost: str, unit: Unit) -> str:
    """For an axis: `Parameters of the cohort (millions)`."""
    return f"{LABELS[cost]} ({unit.name})" if unit.name else LABELS[cost]
