"""Entries of folders of images, without those that systems leave in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from mcl_ray.data.encoded import printable
from mcl_ray.errors import DataError

HIDDEN = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "lost+found"})
"""Names of entries that systems leave in folders, in lower case, besides those that begin with a dot."""
MAX_DEPTH = 100
"""Deepest level of folders that is read, below the folder of a class or of Parquet files."""


def is_hidden(name: str) -> bool:
    """Return whether an entry of a folder is passed over: ._x of AppleDouble, .DS_Store, Thumbs.db and others."""
    return name.startswith(".") or name.lower() in HIDDEN


def entries_of(folder: str | Path) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, sorted by name, without hidden ones.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not is_hidden(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{printable(folder)} cannot be read: {error.strerror}") from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link to one; false of a link that cannot be followed."""
    try:
        return entry.is_dir()
    except OSError:  # it leads to itself, through a file, or to a name that is too long
        return False


def is_file(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a file, or a link to one; false of a link that cannot be followed."""
    try:
        return entry.is_file()
    except OSError:
        return False


def files_below(
    folder: str | Path,
    on_folder: Callable[[str, os.stat_result], None] | None = None,
    above: tuple[tuple[int, int], ...] = (),
) -> Iterator[os.DirEntry[str]]:
    """Yield what is no folder at any depth below a folder, in the order of the names, without hidden entries.

    Args:
        folder: the folder.
        on_folder: receives path and status of every folder below it.
        above: device and inode of the folders above it; links to them are not followed, other links are.

    Raises:
        DataError: a folder cannot be read, or is nested too deep.
    """
    status = Path(folder).stat()
    identity = (status.st_dev, status.st_ino)
    if identity in above:
        return
    if len(above) > MAX_DEPTH:
        raise DataError(f"folders must be nested at most {MAX_DEPTH} deep, but {printable(folder)} is deeper")
    if above and on_folder is not None:
        on_folder(str(folder), status)
    for entry in entries_of(folder):
        if is_folder(entry):
            yield from files_below(entry.path, on_folder, (*above, identity))
        else:
            yield entry
