"""A data set in memory, and how its validation split is held out.

Where images are read from is the business of `cifar` and `digits`; how they are batched, of `sampling`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcl_ray.errors import DataError

CHUNK = 1024
"""Images looked at together where a wider copy of their bytes is needed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """Images and their classes."""

    images: NDArray[np.uint8]
    """[n, C, H, W], 0..255."""
    labels: NDArray[np.int64]
    """[n], positions in `Dataset.class_names`."""

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: NDArray[np.int64]) -> ImageSet:
        """The images at `indices`, in that order, copied."""
        return ImageSet(images=self.images[indices], labels=self.labels[indices])


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Everything a run knows about its images."""

    name: str
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    """Of each channel, images scaled to 0..1."""
    std: tuple[float, ...]
    """Of each channel, images scaled to 0..1."""
    train: ImageSet
    validation: ImageSet | None = None
    test: ImageSet

    @property
    def num_classes(self) -> int:
        """Number of classes, whether or not each has images."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.train.images.shape
        return channels, height, width


def hold_out(train: ImageSet, fraction: float, seed: int) -> tuple[ImageSet, ImageSet | None]:
    """Split `train` into what stays and what is held out for validation, class by class.

    Every class of n images gives round(fraction·n), at least one, and keeps at least one; a class of one image gives
    none. Both parts keep the order of `train`. `seed` belongs to the split and not to a run: the trials and repeats of
    a search are compared on the same images.

    Returns:
        The two parts; `train` itself and None where nothing is held out.
    """
    if fraction == 0:
        return train, None
    held_out = np.zeros(len(train), dtype=np.bool_)
    for label in np.unique(train.labels):
        of_class = np.flatnonzero(train.labels == label)
        count = min(max(round(fraction * len(of_class)), 1), len(of_class) - 1)
        generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(label),)))
        held_out[generator.permutation(of_class)[:count]] = True
    if not held_out.any():
        raise DataError(
            f"a validation split needs a class with two training images, but got {len(train)} classes of one image; "
            "set data.validation_fraction=0"
        )
    return train.subset(np.flatnonzero(~held_out)), train.subset(np.flatnonzero(held_out))


def channel_statistics(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of `images` [n, C, H, W] scaled to 0..1, from exact sums."""
    mean, std = [], []
    count = images[:, 0].size
    for channel in range(images.shape[1]):
        total, squares = 0, 0
        for start in range(0, len(images), CHUNK):
            values = images[start : start + CHUNK, channel].ravel().astype(np.float64)  # exact up to 2^53
            total += int(values.sum())
            squares += int(values @ values)
        mean.append(total / count / 255)
        std.append(math.sqrt(count * squares - total**2) / count / 255)
    if min(std) == 0:
        raise DataError(
            f"every channel of the training images must vary, but got standard deviations {', '.join(map(str, std))}"
        )
    return tuple(mean), tuple(std)
