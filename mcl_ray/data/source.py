"""Loading of the data set of a spec: `load_dataset` and its checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mcl_ray.config.environment import Environment
from mcl_ray.config.registry import DATASETS
from mcl_ray.config.spec import DataSpec, RunSpec
from mcl_ray.data.cifar import LAYOUTS, Layout, download_cifar, is_present, load_cifar
from mcl_ray.data.dataset import Dataset, ImageSet, channel_statistics, held_out_of, hold_out
from mcl_ray.data.dataset_index import Check, DatasetIndex
from mcl_ray.data.digits import DIGITS_TRAIN, load_digits
from mcl_ray.data.download import download
from mcl_ray.data.images import load_encoded
from mcl_ray.data.normalisation import IMAGENET
from mcl_ray.data.npz import load_npz
from mcl_ray.data.sampling import Ints, check_batches
from mcl_ray.data.torchvision_datasets import load_torchvision
from mcl_ray.errors import DataError, SpecError
from mcl_ray.object_store import Uri


def dataset_for(run: RunSpec, environment: Environment) -> Dataset:
    """Load the data set of a run and check that the run can be trained on it.

    Raises:
        DataError: the data set is missing or damaged, or its checksum differs from the spec's.
        SpecError: the sampler cannot form its batches from these images, or there are too few negatives for the bank.
    """

    def check(index: DatasetIndex) -> None:
        check_counts(index.train_counts(run.data.validation_fraction), run)

    if run.data.source == "digits":
        counts = np.array(DIGITS_TRAIN)
        check_counts(counts - held_out_of(counts, run.data.validation_fraction), run)
    dataset = load_dataset(run.data, environment, check)
    check_counts(np.bincount(dataset.train.labels), run)
    return dataset


def check_counts(class_counts: Sequence[int] | Ints, run: RunSpec, world_size: int = 1) -> None:
    """Check that a run can be trained on so many images of each class.

    Args:
        class_counts: number of training images of each class, [C].
        run: the run.
        world_size: number of workers that share a batch.

    Raises:
        SpecError: the sampler cannot form its batches, or there are too few negatives for the bank.
    """
    check_batches(class_counts, run.batch, world_size)
    others = int(np.sum(class_counts) - np.max(class_counts))
    if run.has_effect_on("bank.") and run.bank.negatives > others:
        raise SpecError(
            "`bank.negatives <= training images outside the largest class` must hold, but got "
            f"negatives={run.bank.negatives}, images={others}; negatives={others} fits"
        )


def load_dataset(spec: DataSpec, environment: Environment, check: Check = lambda _: None) -> Dataset:
    """Load the data set of a spec, with its validation split.

    Args:
        spec: the data set and its splits.
        environment: location of the data set. For `cifar` and `cifar10`, this is the archive, its unpacked folder, or a
            folder that holds either; or the URI of the archive in a remote store, or of a prefix above it. With
            `download`, a published data set is downloaded into the folder if it is not there yet. The index and
            statistics of a `folder` or `parquet` source are cached.
        check: called with the index of a `folder` or `parquet` source before anything is cached.

    Raises:
        DataError: the data set is missing or damaged, or its checksum differs from `spec.checksum`.
        SpecError: the normalisation does not fit the images.
    """
    dataset = _load(spec, environment, check)
    if spec.normalisation == "imagenet":
        if dataset.image_shape[0] != len(IMAGENET[0]):
            raise SpecError(
                f"data.normalisation=imagenet requires images of three channels, but those of "
                f"data.source={spec.source} have {dataset.image_shape[0]}"
            )
        dataset = replace(dataset, mean=IMAGENET[0], std=IMAGENET[1])
    if dataset.validation is not None:  # the source's own, or held out as the images were listed
        return dataset
    train, validation = hold_out(dataset.train, spec.validation_fraction)
    if validation is not None and isinstance(train, ImageSet) and _is_measured(spec, dataset):
        mean, std = channel_statistics(train.images)
        dataset = replace(dataset, mean=mean, std=std)
    return replace(dataset, train=train, validation=validation)


def _is_measured(spec: DataSpec, dataset: Dataset) -> bool:
    """Return whether the mean and standard deviation are those of all training images, rather than given numbers."""
    if spec.normalisation == "imagenet":
        return False
    if spec.source in LAYOUTS:
        return spec.checksum != "official" or LAYOUTS[spec.source].statistics is None
    if DATASETS[spec.source].loader is None:
        return True
    assert isinstance(dataset.train, ImageSet), "a plugin's data set is in memory"
    return (dataset.mean, dataset.std) == channel_statistics(dataset.train.images)


def _load(spec: DataSpec, environment: Environment, check: Check) -> Dataset:
    """Load the data set of a spec with the splits and the normalisation of its source."""
    entry = DATASETS[spec.source]
    if entry.loader is not None:
        return _load_of_plugin(spec.source, entry.loader, environment)
    if spec.source == "digits":
        if environment.download:
            raise DataError("data.source=digits ships with scikit-learn, so that --download has nothing to fetch")
        return load_digits()
    if spec.is_encoded:
        return load_encoded(spec, _local(spec, environment), environment.cache, check)
    if spec.source == "npz":
        return load_npz(_local(spec, environment))
    if spec.source in LAYOUTS:
        return _load_cifar(spec, environment, LAYOUTS[spec.source])
    if isinstance(environment.data, Uri):
        raise DataError(f"data.source={spec.source} requires images on this machine, but got {environment.data}")
    return load_torchvision(spec.source, environment.data, download=environment.download)


def _load_cifar(spec: DataSpec, environment: Environment, layout: Layout) -> Dataset:
    data = environment.data
    if isinstance(data, Uri):
        if environment.download:
            raise DataError(f"--download requires --data with a folder, but got the store {data}")
        data = download(data, layout)
    if environment.download and not is_present(data, layout):
        download_cifar(data, layout)
    return load_cifar(data, spec.checksum, layout)


def _load_of_plugin(source: str, loader: Callable[..., Dataset], environment: Environment) -> Dataset:
    """Load a data set by the function of a plugin.

    Raises:
        DataError: it is to come from a store, or the function does not return a `Dataset` of images in memory.
    """
    if isinstance(environment.data, Uri):
        raise DataError(f"data.source={source} requires images on this machine, but got {environment.data}")
    dataset = loader(environment.data, download=environment.download)
    if not (isinstance(dataset, Dataset) and isinstance(dataset.train, ImageSet)):
        raise DataError(
            f"a data set's function must return a mcl_ray.data.dataset.Dataset of ImageSets, but that of {source!r} "
            f"returned {type(dataset).__name__}"
        )
    return replace(dataset, name=source)


def _local(spec: DataSpec, environment: Environment) -> Path:
    """Return the path of images that are neither downloaded nor in a store."""
    if isinstance(environment.data, Uri) or environment.download:
        given = "--download" if environment.download else str(environment.data)
        raise DataError(f"data.source={spec.source} requires images on this machine, but got {given}")
    return environment.data
