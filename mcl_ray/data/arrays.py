"""Data sets from what a plugin has: arrays of images, or a data set of torchvision that returns an image at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcl_ray.data.dataset import Dataset, ImageSet, channel_statistics
from mcl_ray.errors import DataError

# n images, C channels, H × W pixels

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images [n, C, H, W], 0..255, and their labels [n]."""


def dataset_of_arrays(
    *, train: Arrays, test: Arrays, validation: Arrays | None = None, class_names: Sequence[str] | None = None
) -> Dataset:
    """Return a data set whose images are in memory.

    Args:
        train: training images, uint8 [n, C, H, W], and their labels [n], whole numbers from 0.
        test: test images and their labels.
        validation: validation images and their labels; None if they are to be taken from `train`.
        class_names: names in the order of the labels; their numbers if not given.

    Raises:
        DataError: an array has another type or shape, a label has no name, or a channel is constant.
    """
    given = {"train": train, "test": test} | ({} if validation is None else {"validation": validation})
    num_classes = len(class_names) if class_names else 1 + max(int(np.max(labels)) for _, labels in given.values())
    sets = {name: _image_set(name, *arrays, num_classes) for name, arrays in given.items()}
    shapes = {name: images.image_shape for name, images in sets.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(f"all images must have one shape, but got {shapes}")
    mean, std = channel_statistics(sets["train"].images)
    return Dataset(
        name="plugin",
        class_names=tuple(class_names or map(str, range(num_classes))),
        mean=mean,
        std=std,
        train=sets["train"],
        validation=sets.get("validation"),
        test=sets["test"],
    )


def arrays_of_pairs(pairs: Iterable[tuple[Any, int]]) -> Arrays:
    """Return the arrays of a data set of torchvision, which yields (image, label): `FakeData`, `ImageFolder` and so on.

    Args:
        pairs: images of one size, as Pillow has them or as uint8 arrays [H, W] or [H, W, C], and their labels.

    Raises:
        DataError: the images differ in their size, or are no arrays of uint8.
    """
    images, labels = zip(*((np.asarray(image), label) for image, label in pairs), strict=True)
    shapes, types = {image.shape for image in images}, {image.dtype for image in images}
    if len(shapes) > 1 or types != {np.dtype(np.uint8)}:
        raise DataError(
            f"images must be uint8 and of one size, but got {', '.join(sorted(map(str, types)))} of "
            f"{', '.join(sorted(map(str, shapes)))}"
        )
    stacked = np.stack(images)
    channels_last = stacked if stacked.ndim == 4 else stacked[..., np.newaxis]
    return np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2)), np.asarray(labels, dtype=np.int64)


def _image_set(name: str, images: NDArray[Any], labels: NDArray[Any], num_classes: int) -> ImageSet:
    if (
        images.dtype != np.uint8
        or images.ndim != 4
        or labels.dtype.kind not in "iu"
        or labels.shape != images.shape[:1]
    ):
        raise DataError(
            f"a split must be uint8 images [n, C, H, W] and n whole numbers as labels, but {name} has {images.dtype} "
            f"{list(images.shape)} and {labels.dtype} {list(labels.shape)}"
        )
    if not len(labels) or labels.min() < 0 or labels.max() >= num_classes:
        found = f"{labels.min()} to {labels.max()}" if len(labels) else "no image"
        raise DataError(f"`0 <= label < {num_classes}` must hold, but {name} has {found}")
    return ImageSet(images=np.ascontiguousarray(images), labels=labels.astype(np.int64))
