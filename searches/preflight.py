"""Checks of a sweep before anything is written: its batches, its database, and the sweeps it starts warm from."""

from __future__ import annotations

import numpy as np

from mcl_ray.config.overrides import flat
from mcl_ray.data.dataset import Dataset
from mcl_ray.data.source import check_counts
from mcl_ray.errors import SpecError
from searches.spec.experiment import Experiment

LABELS = ("version", "recipe", "seed")
"""Fields of a run that do not change how good a configuration is."""


def check_batches(sweep: Experiment, dataset: Dataset, most_workers: int) -> None:
    """Check the batches of all trials, for the most workers that may share one.

    Raises:
        SpecError: the sampler cannot make such batches of these images.
    """
    counts = np.bincount(dataset.train.labels)
    for run in sweep.batch_runs:
        check_counts(counts, run, most_workers)


def check_proposals(sweep: Experiment) -> None:
    """Check that the sampler can serve the search space, unless all points are known beforehand.

    Raises:
        SpecError: it cannot.
    """
    if sweep.strategy.sampler.kind != "grid":
        from searches.tune.converters import check_sampler  # imports optuna

        check_sampler(sweep)


def check_study(sweep: Experiment) -> None:
    """Check that the study's database can be opened, if the sweep has its own.

    Raises:
        StoreError: it cannot.
    """
    if sweep.outputs.study is not None:
        from searches.tune.optuna_exporter import open_storage

        open_storage(sweep.outputs.study)


def check_comparable(sweep: Experiment, earlier: Experiment, name: str) -> None:
    """Check that the sampler of one sweep can learn from another's scores: their runs differ in searched fields alone.

    Raises:
        SpecError: they are not; `name` is that of the earlier one.
    """

    def scored(of: Experiment) -> dict[str, object]:
        run = {f"run.{path}": value for path, value in flat(of.run).items()}
        searched = {f"run.{path}" for path in (*LABELS, *sweep.space, *earlier.space)}
        fixed = {path: value for path, value in run.items() if path not in searched}
        return {"objective": of.objective, "score": of.scoring.score} | fixed

    differing = [field for field, value in scored(sweep).items() if scored(earlier)[field] != value]
    if differing:
        raise SpecError(
            f"a warm start needs sweeps that are scored alike, but {name} has other values of {', '.join(differing)}"
        )
