"""The way into the data: a `DataSpec` and a place on disk become a `Dataset`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from mcl_ray.data.cifar import download_cifar, is_present, load_cifar
from mcl_ray.data.dataset import Dataset, hold_out
from mcl_ray.data.digits import load_digits
from mcl_ray.data.fetched import fetched
from mcl_ray.data.sampling import check_batches
from mcl_ray.errors import DataError
from mcl_ray.remote import Uri
from mcl_ray.spec import DataSpec, RunSpec

SPLIT_SEED = 0
"""Chooses the validation images. Not the run's seed: every trial and repeat of a search shares one split."""


def dataset_for(run: RunSpec, data_dir: Path | Uri, *, download: bool = False) -> Dataset:
    """The data set of a run, known to serve its batches.

    Raises:
        DataError: The data is missing, damaged, or other than the spec's checksum says.
        SpecError: The sampler cannot make such batches of these images.
    """
    dataset = load_dataset(run.data, data_dir, download=download)
    check_batches(np.bincount(dataset.train.labels), run.batch)
    return dataset


def load_dataset(spec: DataSpec, data_dir: Path | Uri, *, download: bool = False) -> Dataset:
    """Load the data set that `spec` names, with its validation split.

    Args:
        spec: Which images, and what share of the training images is held out.
        data_dir: Where `cifar` is looked for: an archive, its unpacked folder, or a folder that holds either;
            or the archive in a remote store, or the prefix that it lies below.
        download: Fetch CIFAR-100 into `data_dir` where it is not there yet.

    Raises:
        DataError: The data is missing, damaged, or other than `spec.checksum` says.
    """
    if spec.source == "digits":
        dataset = load_digits()
    else:
        if isinstance(data_dir, Uri):
            if download:
                raise DataError(f"--download fetches into a folder, but the data are to be in the store {data_dir}")
            data_dir = fetched(data_dir)
        if download and not is_present(data_dir):
            download_cifar(data_dir)
        dataset = load_cifar(data_dir, spec.checksum)
    train, validation = hold_out(dataset.train, spec.validation_fraction, SPLIT_SEED)
    return replace(dataset, train=train, validation=validation)
