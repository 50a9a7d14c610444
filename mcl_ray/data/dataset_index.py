"""Index of a source of encoded images: its classes, and the class and split of each image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mcl_ray.data.dataset import held_out_of
from mcl_ray.errors import DataError

MAX_NAMES = 3
"""Maximum number of names in an error message."""
TRAIN: Final = 0
VALIDATION: Final = 1
TEST: Final = 2
LEFT_OUT: Final = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class DatasetIndex:
    """The images of a source. Of two splits, the second one is the test split; of three, validation is validation."""

    class_names: tuple[str, ...]
    """[C]."""
    labels: NDArray[np.int64]
    """[n], indices into `class_names`; of no meaning for images that are left out."""
    splits: NDArray[np.int8]
    """[n], TRAIN, VALIDATION, TEST or LEFT_OUT."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Description of what the source has and is not used → its number."""
    tables: Mapping[str, str] = field(default_factory=dict)
    """Folder of a split → table of the classes of its images, where it has no folder for each class."""

    def rows(self, split: int) -> NDArray[np.int64]:
        """Return the positions of the images of a split."""
        return np.flatnonzero(self.splits == split)

    @property
    def has_validation(self) -> bool:
        """Return whether the source has a validation split beside its test split."""
        return bool((self.splits == VALIDATION).any())

    def train_counts(self, validation_fraction: float) -> NDArray[np.int64]:
        """Return the number of training images of each class, [C], without those held out for validation."""
        counts = self._counts(TRAIN)
        return counts if self.has_validation else counts - held_out_of(counts, validation_fraction)

    def check(self, source: str, untested_classes: int) -> None:
        """Check that there are two classes or more, and that every class has training and test images.

        Args:
            source: name of the source, for the error message.
            untested_classes: maximum number of classes without test images.

        Raises:
            DataError: one of these conditions does not hold.
        """
        untrained, untested = self._without(TRAIN), self._without(TEST)
        test = "test" if self.has_validation else "val"
        if len(self.class_names) < 2:
            raise DataError(f"`classes >= 2` must hold, but {source} has {len(self.class_names)}{self._hint()}")
        if untrained:
            raise DataError(
                f"every class must have images in train, but {source} has none of {listed(untrained)}{self._hint()}"
            )
        if len(untested) > untested_classes:
            raise DataError(
                f"`classes without images in {test} <= data.untested_classes` must hold, but {source} has "
                f"{len(untested)} ({listed(untested)}), and untested_classes={untested_classes}{self._hint()}"
            )

    def _counts(self, split: int) -> NDArray[np.int64]:
        return np.bincount(self.labels[self.rows(split)], minlength=len(self.class_names))

    def _without(self, split: int) -> list[str]:
        return [name for name, count in zip(self.class_names, self._counts(split), strict=True) if not count]

    def _hint(self) -> str:
        return f" (left out: {left_out_text(self.left_out)})" if self.left_out else ""


Check = Callable[[DatasetIndex], None]
"""Check of an index before anything is cached; raises an error if a run cannot use these images."""


def with_test_split(splits: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return the split of each image; the validation split becomes the test split where there is no other."""
    return splits if (splits == TEST).any() else np.where(splits == VALIDATION, np.int8(TEST), splits)


def listed(names: list[str]) -> str:
    """Join the first few of many names for an error message."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def left_out_text(left_out: Mapping[str, int]) -> str:
    """Return in one line what a source has and is not used."""
    return "; ".join(f"{count:,} {words}" for words, count in left_out.items())
