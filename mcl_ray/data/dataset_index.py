"""Index of a source of encoded images: its classes, and the class and split of each image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcl_ray.data.dataset import held_out_of
from mcl_ray.errors import DataError

MAX_NAMES = 3
"""Maximum number of names in an error message."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DatasetIndex:
    """The training and test images of a source."""

    class_names: tuple[str, ...]
    """[C]."""
    labels: NDArray[np.int64]
    """[n], indices into `class_names`."""
    is_train: NDArray[np.bool_]
    """[n], True for training images."""

    def rows(self, *, train: bool) -> NDArray[np.int64]:
        """Return the positions of the training images, or of the test images."""
        return np.flatnonzero(self.is_train == train)

    def train_counts(self, validation_fraction: float) -> NDArray[np.int64]:
        """Return the number of training images of each class, [C], without those held out for validation."""
        counts = np.bincount(self.labels[self.rows(train=True)], minlength=len(self.class_names))
        return counts - held_out_of(counts, validation_fraction)

    def check(self, source: str, untested_classes: int) -> None:
        """Check that there are two classes or more, and that every class has training and test images.

        Args:
            source: name of the source, for the error message.
            untested_classes: maximum number of classes without test images.

        Raises:
            DataError: one of these conditions does not hold.
        """
        without = {split: self._without(train=split == "train") for split in ("train", "val")}
        if len(self.class_names) < 2:
            raise DataError(f"`classes >= 2` must hold, but {source} has {len(self.class_names)}")
        if without["train"]:
            raise DataError(
                f"every class must have images in train, but {source} has none of {listed(without['train'])}"
            )
        if len(without["val"]) > untested_classes:
            raise DataError(
                f"`classes without images in val <= data.untested_classes` must hold, but {source} has "
                f"{len(without['val'])} ({listed(without['val'])}), and untested_classes={untested_classes}"
            )

    def _without(self, *, train: bool) -> list[str]:
        counts = np.bincount(self.labels[self.rows(train=train)], minlength=len(self.class_names))
        return [name for name, count in zip(self.class_names, counts, strict=True) if not count]


Check = Callable[[DatasetIndex], None]
"""Check of an index before anything is cached; raises an error if a run cannot use these images."""


def listed(names: list[str]) -> str:
    """Join the first few of many names for an error message."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
