"""Checks of a sweep before anything is written: its batches, its sampler, its database and its folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.config.parallelism import most_batch_parts
from mcl_ray.data.dataset import Dataset
from mcl_ray.data.encoded import printable
from mcl_ray.data.source import check_counts
from mcl_ray.errors import StoreError
from searches.spec.experiment import Experiment


def check_batches(sweep: Experiment, dataset: Dataset, execution: ExecutionOptions) -> None:
    """Check the batches of all trials, and that the workers of a trial can share it, however many there may be.

    Raises:
        SpecError: the sampler cannot make such batches of these images, or the workers cannot share a trial.
    """
    counts = np.bincount(dataset.train.labels)
    for run in sweep.batch_runs:
        check_counts(counts, run, most_batch_parts(run, execution.parallelism, execution.group or (1, 1)))


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


def check_results(results: Path) -> None:
    """Check that the path of the results folder is in UTF-8, as Ray Tune and SQLite require.

    Raises:
        StoreError: it is not.
    """
    path = results.resolve()
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise StoreError(f"the results of sweeps require a path in UTF-8, but got {printable(path)}") from error
