"""A data set of encoded images, of a `folder` or of `parquet`: its splits, its normalisation, its counts."""

from __future__ import annotations

from pathlib import Path

from mcl_ray.config.spec import DataSpec
from mcl_ray.data.dataset import Dataset
from mcl_ray.data.dataset_index import Check, DatasetIndex
from mcl_ray.data.encoded import Encoded, EncodedSet
from mcl_ray.data.folder import list_folder, open_folder
from mcl_ray.data.normalisation import IMAGENET, measured
from mcl_ray.data.parquet import list_parquet, open_parquet
from mcl_ray.errors import DataError


def load_encoded(spec: DataSpec, path: Path, cache: Path, check: Check) -> Dataset:
    """The images at `path`; the test split is what the source calls val, validation or test.

    Nothing is kept of images that `check` refuses.

    Raises:
        DataError: they are missing, or not laid out as they should be.
    """
    check_there(spec, path)
    encoded: Encoded
    if spec.source == "folder":
        listing, encoded, shelf = open_folder(path, spec.untested_classes, cache, check)
    else:
        listing = list_parquet(path, spec)
        check(listing)
        encoded, shelf = open_parquet(path, spec, cache)
    train, test = (
        EncodedSet(encoded=encoded, rows=rows, labels=listing.labels[rows], side=spec.image_size)
        for rows in (listing.rows(train=True), listing.rows(train=False))
    )
    mean, std = IMAGENET if spec.normalisation == "imagenet" else measured(train, shelf)
    return Dataset(name=spec.source, class_names=listing.class_names, mean=mean, std=std, train=train, test=test)


def list_images(spec: DataSpec, path: Path) -> DatasetIndex:
    """What there is at `path`, with nothing kept and no image read.

    Raises:
        DataError: as `load_encoded`.
    """
    check_there(spec, path)
    return list_folder(path, spec.untested_classes) if spec.source == "folder" else list_parquet(path, spec)


def check_there(spec: DataSpec, path: Path) -> None:
    """Say where images are looked for.

    Raises:
        DataError: there is nothing.
    """
    if not path.exists():
        raise DataError(f"--data names the images of data.source={spec.source}, but there is nothing at {path}")
