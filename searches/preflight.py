"""Checks of a sweep before anything is written: its batches, its sampler and its database."""

from __future__ import annotations

import numpy as np

from mcl_ray.data.dataset import Dataset
from mcl_ray.data.source import check_counts
from searches.spec.experiment import Experiment


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
