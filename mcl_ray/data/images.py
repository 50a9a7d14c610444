"""Data sets of encoded images, from `folder` or `parquet`: splits, normalisation and counts."""

from __future__ import annotations

from pathlib import Path

from mcl_ray.config.spec import DataSpec
from mcl_ray.data.dataset import Dataset, hold_out
from mcl_ray.data.dataset_index import TEST, TRAIN, VALIDATION, Check, DatasetIndex
from mcl_ray.data.encoded import Encoded, EncodedSet, printable
from mcl_ray.data.folder import list_folder, open_folder
from mcl_ray.data.normalisation import IMAGENET, measured
from mcl_ray.data.parquet import list_parquet, open_parquet
from mcl_ray.errors import DataError


def load_encoded(spec: DataSpec, path: Path, cache: Path, check: Check) -> Dataset:
    """Load the data set at `path`; of two splits the second is its test split, of three validation is validation.

    Args:
        spec: the data set.
        path: the folder of images, or the Parquet file or folder.
        cache: folder of all caches.
        check: called with the index before anything is cached; nothing is cached if it raises.

    Raises:
        DataError: the images are missing, their layout is wrong, or the cache cannot be written.
    """
    check_exists(spec, path)
    encoded: Encoded
    if spec.source == "folder":
        index, encoded, index_cache = open_folder(path, spec.untested_classes, cache, check)
    else:
        index = list_parquet(path, spec)
        check(index)
        encoded, index_cache = open_parquet(path, spec, cache)
    upright = spec.orientation == "exif"
    train, validation, test = (
        EncodedSet(encoded=encoded, rows=rows, labels=index.labels[rows], side=spec.image_size, upright=upright)
        for rows in map(index.rows, (TRAIN, VALIDATION, TEST))
    )
    kept, held_out = (train, validation) if index.has_validation else hold_out(train, spec.validation_fraction)
    assert isinstance(kept, EncodedSet), "as the images that it is a part of"
    mean, std = IMAGENET if spec.normalisation == "imagenet" else measured(kept, index_cache)
    return Dataset(
        name=spec.source,
        class_names=index.class_names,
        mean=mean,
        std=std,
        train=kept,
        validation=held_out,
        test=test,
        left_out=dict(index.left_out),
    )


def list_images(spec: DataSpec, path: Path) -> DatasetIndex:
    """Return the index of the images at `path`, without caching anything and without decoding images.

    Raises:
        DataError: as `load_encoded`.
    """
    check_exists(spec, path)
    return list_folder(path, spec.untested_classes) if spec.source == "folder" else list_parquet(path, spec)


def check_exists(spec: DataSpec, path: Path) -> None:
    """Check that the path of the images exists.

    Raises:
        DataError: it does not.
    """
    if not path.exists():
        raise DataError(
            f"--data must name the images of data.source={spec.source}, but there is nothing at {printable(path)}"
        )
