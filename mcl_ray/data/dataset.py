"""A data set and its splits, the validation split, and channel statistics.

`source` loads data sets; `sampling` forms batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mcl_ray.data.encoded import EncodedSet
from mcl_ray.errors import DataError

CHUNK = 1024
"""Number of images converted to float64 at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSet:
    """Images in memory with their labels."""

    images: NDArray[np.uint8]
    """[n, C, H, W], 0..255."""
    labels: NDArray[np.int64]
    """[n], indices into `Dataset.class_names`."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width in pixels."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def subset(self, indices: NDArray[np.int64]) -> ImageSet:
        """Return a copy of the images at `indices`, in this order."""
        return ImageSet(images=self.images[indices], labels=self.labels[indices])


Split = ImageSet | EncodedSet


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A data set: its splits, classes and channel statistics."""

    name: str
    """The source, as in `data.source`."""
    class_names: tuple[str, ...]
    """[C]."""
    mean: tuple[float, ...]
    """Mean of each channel, for images scaled to 0..1."""
    std: tuple[float, ...]
    """Standard deviation of each channel, for images scaled to 0..1."""
    train: Split
    """Training images, without those held out for validation."""
    validation: Split | None = None
    """Validation images; None without a validation split."""
    test: Split
    """Test images."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Description of what the source has and is not used → its number."""

    @property
    def num_classes(self) -> int:
        """Number of classes, C, including classes without images."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width in pixels, as the networks receive them."""
        return self.train.image_shape

    @property
    def splits(self) -> dict[str, Split]:
        """The splits that exist, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


SPLIT_SEED = 0
"""Seed of the validation split. It is not the run's seed: every trial and repeat of a search uses the same split."""


def hold_out(train: Split, fraction: float, seed: int = SPLIT_SEED) -> tuple[Split, Split | None]:
    """Split `train` into training and validation images, class by class.

    A class of n images gives round(fraction·n) images to the validation split, at least one and at most n − 1; a class
    of one image gives none. Both parts keep the order of `train`.

    Args:
        train: all training images.
        fraction: fraction of each class's images to hold out.
        seed: seed of the split.

    Returns:
        Training and validation images; `train` itself and None if `fraction` is 0.

    Raises:
        DataError: every class has only one image.
    """
    if fraction == 0:
        return train, None
    held_out = np.zeros(len(train), dtype=np.bool_)
    counts = held_out_of(np.bincount(train.labels), fraction)
    for label in np.unique(train.labels):
        of_class, count = np.flatnonzero(train.labels == label), counts[label]
        generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(label),)))
        held_out[generator.permutation(of_class)[:count]] = True
    if not held_out.any():
        raise DataError(
            f"a validation split requires a class with two training images, but got {len(train)} classes of one image; "
            "set data.validation_fraction=0"
        )
    return train.subset(np.flatnonzero(~held_out)), train.subset(np.flatnonzero(held_out))


def held_out_of(class_counts: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """Return the number of images of each class that `hold_out` holds out, [C], for the numbers of images [C]."""
    if fraction == 0:
        return np.zeros_like(class_counts)
    rounded = np.maximum(np.round(fraction * class_counts).astype(np.int64), 1)
    return np.maximum(np.minimum(rounded, class_counts - 1), 0)


Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, for images scaled to 0..1."""


def channel_statistics(images: NDArray[np.uint8]) -> Statistics:
    """Compute the mean and standard deviation of each channel of `images` [n, C, H, W].

    Raises:
        DataError: a channel is constant.
    """
    sums = ChannelStatistics(images.shape[1])
    for start in range(0, len(images), CHUNK):
        sums.add(images[start : start + CHUNK])
    return sums.result()


class ChannelStatistics:
    """Mean and standard deviation of each channel, accumulated as exact integer sums over images of any size.

    Args:
        num_channels: C.
    """

    def __init__(self, num_channels: int) -> None:
        self.count = 0
        """Number of pixels so far."""
        self._sums, self._squares = [0] * num_channels, [0] * num_channels

    def add(self, images: NDArray[np.uint8]) -> None:
        """Add images [n, C, H, W]."""
        self.count += images[:, 0].size
        for channel in range(len(self._sums)):
            values = images[:, channel].ravel().astype(np.float64)  # exact up to 2^53
            self._sums[channel] += int(values.sum())
            self._squares[channel] += int(values @ values)

    def result(self) -> Statistics:
        """Return the mean and standard deviation of each channel.

        Raises:
            DataError: a channel is constant.
        """
        count = self.count
        mean = tuple(total / count / 255 for total in self._sums)
        pairs = zip(self._sums, self._squares, strict=True)
        std = tuple(math.sqrt(count * squares - total**2) / count / 255 for total, squares in pairs)
        if min(std) == 0:
            raise DataError(
                "every channel of the training images must vary, but got standard deviations "
                f"{', '.join(map(str, std))}"
            )
        return mean, std
