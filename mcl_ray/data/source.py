"""The way into the data: a `DataSpec` and a place on disk become a `Dataset`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mcl_ray.config.environment import Environment
from mcl_ray.config.spec import DataSpec, RunSpec
from mcl_ray.data.cifar import download_cifar, is_present, load_cifar
from mcl_ray.data.dataset import Dataset, held_out_of, hold_out
from mcl_ray.data.dataset_index import Check, DatasetIndex
from mcl_ray.data.digits import DIGITS_TRAIN, load_digits
from mcl_ray.data.download import fetched
from mcl_ray.data.images import load_encoded
from mcl_ray.data.normalisation import IMAGENET
from mcl_ray.data.sampling import Ints, check_batches
from mcl_ray.errors import DataError, SpecError
from mcl_ray.object_store import Uri

SPLIT_SEED = 0
"""Chooses the validation images. Not the run's seed: every trial and repeat of a search shares one split."""


def dataset_for(run: RunSpec, environment: Environment) -> Dataset:
    """The data set of a run, known to serve its batches.

    Raises:
        DataError: The data is missing, damaged, or other than the spec's checksum says.
        SpecError: The sampler cannot make such batches of these images, or the bank cannot be drawn from them.
    """

    def check(listing: DatasetIndex) -> None:
        check_counts(listing.train_counts(run.data.validation_fraction), run)

    if run.data.source == "digits":
        counts = np.array(DIGITS_TRAIN)
        check_counts(counts - held_out_of(counts, run.data.validation_fraction), run)
    dataset = load_dataset(run.data, environment, check)
    check_counts(np.bincount(dataset.train.labels), run)
    return dataset


def check_counts(class_counts: Sequence[int] | Ints, run: RunSpec, world_size: int = 1) -> None:
    """Check, before anything slow, that a run can be fed with so many training images of each class.

    Raises:
        SpecError: The sampler cannot make its batches, or there are too few images to contrast with.
    """
    check_batches(class_counts, run.batch, world_size)
    others = int(np.sum(class_counts) - np.max(class_counts))
    if run.method == "supervised_bank" and run.bank.negatives > others:
        raise SpecError(
            "bank.negatives <= training images outside the largest class must hold, but got "
            f"negatives={run.bank.negatives}, images={others}"
        )


def load_dataset(spec: DataSpec, environment: Environment, check: Check = lambda _: None) -> Dataset:
    """Load the data set that `spec` names, with its validation split.

    Args:
        spec: Which images, and what share of the training images is held out.
        environment: Where the images are. `cifar` is an archive, its unpacked folder, or a folder that holds either, or
            the archive in a remote store, or the prefix that it lies below; with `download`, it is fetched into the
            folder where it is not there yet. What is worked out of a `folder` or `parquet` once is kept in the cache.
        check: Looks at what a `folder` or `parquet` has before anything is kept of it.

    Raises:
        DataError: The data is missing, damaged, or other than `spec.checksum` says.
    """
    data_dir = environment.data
    if spec.source == "digits":
        if environment.download:
            raise DataError("data.source=digits ships with scikit-learn, so that --download has nothing to fetch")
        dataset = load_digits()
    elif spec.is_encoded:
        if isinstance(data_dir, Uri) or environment.download:
            told = "--download" if environment.download else str(data_dir)
            raise DataError(f"images of data.source={spec.source} are read from this machine, not by {told}")
        dataset = load_encoded(spec, data_dir, environment.cache, check)
    else:
        if isinstance(data_dir, Uri):
            if environment.download:
                raise DataError(f"--download fetches into a folder, but the data are to be in the store {data_dir}")
            data_dir = fetched(data_dir)
        if environment.download and not is_present(data_dir):
            download_cifar(data_dir)
        dataset = load_cifar(data_dir, spec.checksum)
    if spec.normalisation == "imagenet":
        if dataset.image_shape[0] != len(IMAGENET[0]):
            raise SpecError(
                f"data.normalisation=imagenet is of three channels, but images of data.source={spec.source} have "
                f"{dataset.image_shape[0]}"
            )
        dataset = replace(dataset, mean=IMAGENET[0], std=IMAGENET[1])
    train, validation = hold_out(dataset.train, spec.validation_fraction, SPLIT_SEED)
    return replace(dataset, train=train, validation=validation)
