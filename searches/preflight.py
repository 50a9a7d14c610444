"""What can be told of a sweep before anything is written: its batches, its database, what it starts warm from."""

from __future__ import annotations

import numpy as np

from mcl_ray.config.overrides import replace
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.dataset import Dataset
from mcl_ray.data.source import check_counts
from mcl_ray.errors import SpecError
from searches.spec.experiment import Experiment
from searches.spec.suite import SuiteSpec


def check_batches(sweep: Experiment, dataset: Dataset, most_workers: int) -> None:
    """Batches of rows, and searched ones, are checked as the run's own are, for the most workers that may share them.

    Raises:
        SpecError: the sampler cannot make such batches of these images.
    """
    counts = np.bincount(dataset.train.labels)
    for run in _of_all_batches(sweep):
        check_counts(counts, run, most_workers)


def _of_all_batches(sweep: Experiment) -> list[RunSpec]:
    """Runs that have among them every batch and every bank at its extremes."""
    if isinstance(sweep, SuiteSpec):
        return [sweep.trial_run(point) for point in sweep.first_points] + ([sweep.then] if sweep.then else [])
    return [sweep.run] + [
        replace(sweep.run, {path: value})
        for path, dimension in sweep.space.items()
        if path.startswith(("batch.", "bank.")) and not dimension.when
        for value in dimension.ends()
    ]


def check_study(sweep: Experiment) -> None:
    """A database of one's own must answer before anything is written.

    Raises:
        StoreError: it does not.
    """
    if sweep.study is not None:
        from searches.tune.optuna_exporter import open_storage

        open_storage(sweep.study)


def check_comparable(sweep: Experiment, earlier: Experiment, name: str) -> None:
    """Scores of one sweep can be told to the sampler of another if both are scored alike, on the same images.

    Raises:
        SpecError: they are not; `name` is the earlier one.
    """

    def scored(of: Experiment) -> dict[str, object]:
        epochs = of.run.schedule.epochs
        return {
            "objective": of.objective,
            "score": of.scoring.score,
            "run.data": of.run.data,
            "run.schedule.epochs": epochs,
        }

    differing = [field for field, value in scored(sweep).items() if scored(earlier)[field] != value]
    if differing:
        raise SpecError(
            f"a warm start needs sweeps that are scored alike, but {name} has other values of {', '.join(differing)}"
        )
