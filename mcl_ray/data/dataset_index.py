"""What a source of encoded images says of itself: its classes, and the class and split of each image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcl_ray.data.dataset import held_out_of
from mcl_ray.errors import DataError

NAMED = 3
"""As many names as an error gives of what may be many."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DatasetIndex:
    """All images of a source, those of training and those of test."""

    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    """[n], positions in `class_names`."""
    is_train: NDArray[np.bool_]
    """[n]."""

    def rows(self, *, train: bool) -> NDArray[np.int64]:
        """Where the images of a split are."""
        return np.flatnonzero(self.is_train == train)

    def train_counts(self, validation_fraction: float) -> NDArray[np.int64]:
        """Training images of each class, [C], once a share of them is held out."""
        counts = np.bincount(self.labels[self.rows(train=True)], minlength=len(self.class_names))
        return counts - held_out_of(counts, validation_fraction)

    def check(self, source: str, untested_classes: int) -> None:
        """Check that there is something to learn of every class, and something to test it by.

        Args:
            source: Where the images are, for the error.
            untested_classes: How many classes may have no image for test.

        Raises:
            DataError: there is not.
        """
        without = {split: self._without(train=split == "train") for split in ("train", "val")}
        if len(self.class_names) < 2:
            raise DataError(f"images are of two classes or more, but {source} has {len(self.class_names)}")
        if without["train"]:
            raise DataError(f"every class has images in train, but {source} has none of {listed(without['train'])}")
        if len(without["val"]) > untested_classes:
            raise DataError(
                f"classes without images in val <= data.untested_classes must hold, but {source} has "
                f"{len(without['val'])} ({listed(without['val'])}), and untested_classes={untested_classes}"
            )

    def _without(self, *, train: bool) -> list[str]:
        counts = np.bincount(self.labels[self.rows(train=train)], minlength=len(self.class_names))
        return [name for name, count in zip(self.class_names, counts, strict=True) if not count]


Check = Callable[[DatasetIndex], None]
"""Raises an error if a run cannot be fed with what is listed."""


def listed(names: list[str]) -> str:
    """A few of many names."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
