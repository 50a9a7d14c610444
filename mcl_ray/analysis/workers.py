"""The workers that shared the batches of a run, or of its pretraining, as far as they are on record.

Batch normalisation averages over the images of one worker, so that a comparison with published figures needs their
number, which is no part of a spec. Workers that train other peers do not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mcl_ray.analysis.published_setting import UNKNOWN_WORKERS
from mcl_ray.config.spec import RunSpec
from mcl_ray.results.provenance import workers_of
from mcl_ray.results.reader import read_runs, results_root

Workers = Mapping[RunSpec, int]
"""Spec of a run → number of its workers, or `UNKNOWN_WORKERS` if runs of this spec had several numbers of them."""


def workers_by_spec(rows: Iterable[Mapping[str, Any]]) -> Workers:
    """Return the number of workers of each spec in rows of the table of runs."""
    found: dict[RunSpec, int] = {}
    for row in rows:
        spec, workers = RunSpec.model_validate_json(row["spec"]), workers_of(row["hardware"])
        found[spec] = workers if found.get(spec, workers) == workers else UNKNOWN_WORKERS
    return found


def workers_nearby(folder: Path) -> Workers:
    """Return the number of workers of each spec in a results folder, or in the one around a sweep.

    Raises:
        StoreError: the folder holds damaged files.
    """
    return workers_by_spec(read_runs(results_root(folder)).to_pylist())


def pretraining_workers(spec: RunSpec, known: Workers) -> int | None:
    """Return the number of workers of a run's pretraining; None for a run without one."""
    return None if spec.pretraining is None else known.get(spec.pretraining, UNKNOWN_WORKERS)
