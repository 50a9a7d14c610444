"""Images in one .npz file of NumPy, in the layout of MedMNIST: arrays train_images, train_labels and so on.

Labels are integers, or floats and booleans that are whole numbers.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mcl_ray.data.dataset import Dataset, ImageSet, channel_statistics
from mcl_ray.data.encoded import printable
from mcl_ray.data.whole_labels import exact_below, whole_labels
from mcl_ray.errors import DataError

KEYS = ("{}_images", "{}_labels")
KERAS_KEYS = ("x_{}", "y_{}")
"""Names of the arrays as Keras has them, in its mnist.npz."""
MAX_BYTES = 2**34
"""Maximum size of an array: larger ones belong into a folder or Parquet, from which images are read on demand."""


def load_npz(path: Path) -> Dataset:
    """Load images from a file; of val and test both, val is the validation split.

    Raises:
        DataError: the file is missing, damaged, or lacks an array, or an array is not as it must be.
    """
    try:
        with path.open("rb") as file:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise DataError(f"data.source=npz requires a file with several arrays, but {path} holds one array")
            _check_sizes(arrays, path)
            keys = {name: _keys(arrays, name, path) for name in ("train", "val", "test")}
            found = {name: _split(arrays, pair, path) for name, pair in keys.items() if pair is not None}
    except DataError:
        raise
    except Exception as error:  # of a damaged file: those of NumPy, zipfile, zlib and tokenize, MemoryError among them
        raise DataError(f"data.source=npz requires a .npz file of NumPy, but {path} is none: {error}") from error
    if "train" not in found or len(found) < 2:
        raise DataError(
            f"a .npz file must hold train_images, train_labels, and those of test or val, but {path} holds "
            f"{', '.join(arrays.files)}"
        )
    used = {key for pair in keys.values() if pair is not None for key in pair}
    others = [printable(name) for name in arrays.files if name not in used]
    left_out = {f"arrays that are of no split, as {others[0]}": len(others)} if others else {}
    return replace(_dataset(found, path), left_out=left_out)


def _check_sizes(arrays: np.lib.npyio.NpzFile, path: Path) -> None:
    members = [] if arrays.zip is None else arrays.zip.infolist()
    largest = max((info.file_size for info in members), default=0)
    if largest > MAX_BYTES:
        raise DataError(f"an array of {path} must have at most {MAX_BYTES:,} bytes, but one has {largest:,}")


def _keys(arrays: np.lib.npyio.NpzFile, split: str, path: Path) -> tuple[str, str] | None:
    """Return the names of the images and the labels of a split; None if there is no such split."""
    for images, labels in (KEYS, KERAS_KEYS):
        pair = images.format(split), labels.format(split)
        if pair[0] in arrays.files:
            if pair[1] not in arrays.files:
                raise DataError(f"{path} must hold {pair[1]} beside {pair[0]}, but holds no such array")
            return pair
    return None


def _split(
    arrays: np.lib.npyio.NpzFile, keys: tuple[str, str], path: Path
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images of a split, [n, C, H, W], and their labels, [n]."""
    images, labels = (_array(arrays, key, path) for key in keys)
    converted = _images(images, f"{keys[0]} of {path}")
    return converted, _labels(labels, len(converted), f"{keys[1]} of {path}")


def _array(arrays: np.lib.npyio.NpzFile, name: str, path: Path) -> NDArray[np.generic]:
    array = arrays[name]
    if not isinstance(array, np.ndarray):  # NumPy returns the bytes of a member that has no header of its own
        raise DataError(f"a .npz file must hold arrays, but {name} of {path} is none")
    return array


def _images(array: NDArray[np.generic], name: str) -> NDArray[np.uint8]:
    is_colour = array.ndim == 4 and array.shape[3] in (1, 3)
    if array.dtype != np.uint8 or not (array.ndim == 3 or is_colour) or not array.size:
        raise DataError(
            f"images must be uint8 [n, H, W] or [n, H, W, 1 or 3], but {name} is {array.dtype} {list(array.shape)}"
        )
    channels_last = array if array.ndim == 4 else array[..., np.newaxis]
    return np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2)).astype(np.uint8, copy=False)


def _labels(array: NDArray[np.generic], count: int, name: str) -> NDArray[np.int64]:
    labels = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if labels.dtype.kind not in "iufb" or labels.shape != (count,):
        raise DataError(
            f"labels must be one whole number for each of the {count} images, but {name} is {array.dtype} "
            f"{list(array.shape)}"
        )
    if labels.dtype.kind in "fb":
        below = exact_below(labels.dtype) if labels.dtype.kind == "f" else math.inf
        whole_labels(np.unique(labels).tolist(), min(below, 2**63), name)
    if labels.dtype.kind == "u" and count and int(labels.max()) >= 2**63:
        raise DataError(f"`label < 2**63` must hold, but {name} has {labels.max()}")
    return labels.astype(np.int64)


def _dataset(given: dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]], path: Path) -> Dataset:
    shapes = {name: images.shape[1:] for name, (images, _) in given.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(f"all images must have one shape, but {path} has {shapes}")
    classes = np.unique(given["train"][1])
    beyond = {int(label) for name in given.keys() - {"train"} for label in np.setdiff1d(given[name][1], classes)}
    if len(classes) < 2 or beyond:
        raise DataError(
            f"train_labels must have two classes or more, and those of all splits, but {path} has {len(classes)} in "
            f"train{f', and {min(beyond)} in another split only' if beyond else ''}"
        )
    sets = {
        name: ImageSet(images=images, labels=np.searchsorted(classes, labels).astype(np.int64))
        for name, (images, labels) in given.items()
    }
    mean, std = channel_statistics(sets["train"].images)
    return Dataset(
        name="npz",
        class_names=tuple(str(label) for label in classes),
        mean=mean,
        std=std,
        train=sets["train"],
        validation=sets["val"] if "test" in sets and "val" in sets else None,
        test=sets.get("test", sets.get("val", sets["train"])),
    )
