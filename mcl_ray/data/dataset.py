"""A data set in memory, and how its validation split is held out.

Where images are read from is the business of `cifar` and `digits`; how they are batched, of `sampling`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcl_ray.data.encoded import EncodedSet
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

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    def subset(self, indices: NDArray[np.int64]) -> ImageSet:
        """The images at `indices`, in that order, copied."""
        return ImageSet(images=self.images[indices], labels=self.labels[indices])


Split = ImageSet | EncodedSet


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Everything a run knows about its images."""

    name: str
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    """Of each channel, images scaled to 0..1."""
    std: tuple[float, ...]
    """Of each channel, images scaled to 0..1."""
    train: Split
    validation: Split | None = None
    test: Split

    @property
    def num_classes(self) -> int:
        """Number of classes, whether or not each has images."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width, as a network sees them."""
        return self.train.image_shape

    @property
    def splits(self) -> dict[str, Split]:
        """Those that there are, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}


def hold_out(train: Split, fraction: float, seed: int) -> tuple[Split, Split | None]:
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
    counts = held_out_of(np.bincount(train.labels), fraction)
    for label in np.unique(train.labels):
        of_class, count = np.flatnonzero(train.labels == label), counts[label]
        generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(label),)))
        held_out[generator.permutation(of_class)[:count]] = True
    if not held_out.any():
        raise DataError(
            f"a validation split needs a class with two training images, but got {len(train)} classes of one image; "
            "set data.validation_fraction=0"
        )
    return train.subset(np.flatnonzero(~held_out)), train.subset(np.flatnonzero(held_out))


def held_out_of(class_counts: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """How many of so many images of each class are held out: at least one, and all but one at most."""
    if fraction == 0:
        return np.zeros_like(class_counts)
    wanted = np.maximum(np.round(fraction * class_counts).astype(np.int64), 1)
    return np.maximum(np.minimum(wanted, class_counts - 1), 0)


Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, images scaled to 0..1."""


def channel_statistics(images: NDArray[np.uint8]) -> Statistics:
    """Those of `images` [n, C, H, W]."""
    sums = ChannelStatistics(images.shape[1])
    for start in range(0, len(images), CHUNK):
        sums.add(images[start : start + CHUNK])
    return sums.result()


class ChannelStatistics:
    """Mean and standard deviation of each channel from exact sums, over images of any size."""

    def __init__(self, num_channels: int) -> None:
        self.count = 0
        """Pixels seen."""
        self._sums, self._squares = [0] * num_channels, [0] * num_channels

    def add(self, images: NDArray[np.uint8]) -> None:
        """See images [n, C, H, W]."""
        self.count += images[:, 0].size
        for channel in range(len(self._sums)):
            values = images[:, channel].ravel().astype(np.float64)  # exact up to 2^53
            self._sums[channel] += int(values.sum())
            self._squares[channel] += int(values @ values)

    def result(self) -> Statistics:
        """Mean and standard deviation.

        Raises:
            DataError: a channel is the same everywhere.
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
