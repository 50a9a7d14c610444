"""Tables of the classes of a split whose images lie in one folder, as of Tiny-ImageNet and of Kaggle's ImageNet."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from mcl_ray.data.dataset_index import TRAIN
from mcl_ray.data.encoded import printable
from mcl_ray.data.entries import entries_of, is_file, is_folder
from mcl_ray.data.split_names import split_of, words_of
from mcl_ray.errors import DataError

SUFFIXES = (".txt", ".csv", ".tsv")
KAGGLE = ("ILSVRC", "Data", "CLS-LOC")
"""Folder of train/ and val/ in Kaggle's archive of ImageNet, which has its tables at the top."""


@dataclass(frozen=True, kw_only=True)
class ClassTable:
    """The classes of a split's images."""

    name: str
    """Name of the table."""
    classes: Mapping[str, str]
    """Name of an image, with or without its suffix → its class."""

    def row_of(self, image: str) -> str | None:
        """Return the name by which the table has an image; None if it does not."""
        return next((name for name in (image, Path(image).stem) if name in self.classes), None)


def tables_of(folder: Path) -> list[Path]:
    """Return the tables that may have the classes of a split: those in its folder, then those beside it, by name.

    One beside it has a name of the split in its own, as LOC_val_solution.csv; those with the folder's name come first.
    """
    root, split = folder.absolute().parent, split_of(folder.name)
    beside = [root, *([root.parents[2]] if root.parts[-3:] == KAGGLE else [])]
    named = [path for place in beside for path in _tables_in(place) if split in map(split_of, words_of(path.stem))]
    return [*_tables_in(folder), *sorted(named, key=lambda path: folder.name not in words_of(path.stem))]


def has_class_folders(folder: Path) -> bool:
    """Return whether the folder of a split has a folder for a class of train/."""
    classes = _classes_beside(folder)
    return any(is_folder(entry) and entry.name in classes for entry in entries_of(folder))


def find_class_table(folder: Path) -> ClassTable | None:
    """Return the table with the classes of a split, val or test; None if it has none, or a folder for each class.

    The rows of a table begin with the name of an image and a class of train/, alone or before further words.

    Raises:
        DataError: a table has two classes for an image.
    """
    tables = [] if split_of(folder.name) == TRAIN else tables_of(folder)
    if not tables:
        return None
    if has_class_folders(folder):
        return None
    classes = _classes_beside(folder)
    read = (ClassTable(name=path.name, classes=_read(path, classes)) for path in tables)
    return next((table for table in read if table.classes), None)


def _classes_beside(folder: Path) -> set[str]:
    """Return the classes of train/, which lies beside the folder of a split; none if it is missing."""
    beside = [entry for entry in entries_of(folder.parent) if split_of(entry.name) == TRAIN and is_folder(entry)]
    return {entry.name for train in beside for entry in entries_of(train.path) if is_folder(entry)}


def _tables_in(folder: Path) -> list[Path]:
    entries = entries_of(folder)
    return [Path(entry.path) for entry in entries if entry.name.lower().endswith(SUFFIXES) and is_file(entry)]


def _read(path: Path, classes: Collection[str]) -> dict[str, str]:
    """Return image → class of the rows with a class of train/.

    Raises:
        DataError: an image has two classes, or a row is longer than any of a table.
    """
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    delimiter = "\t" if "\t" in text else ","
    found: dict[str, str] = {}
    try:
        for name, value, *_ in (row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if len(row) > 1):
            candidates = (value.strip(), *value.split()[:1])  # the class alone, or before the boxes of its objects
            known = next((candidate for candidate in candidates if candidate in classes), None)
            if known is not None and found.setdefault(name.strip(), known) != known:
                raise DataError(
                    f"an image must have one class, but {printable(path)} has {found[name.strip()]} and {known} for "
                    f"{printable(name.strip())}"
                )
    except csv.Error as error:
        raise DataError(f"{printable(path)} must be a table of images and classes, but got: {error}") from error
    return found
