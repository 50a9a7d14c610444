"""Files of a Parquet source: those of a folder, at any depth, and what else there is."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mcl_ray.data.encoded import printable
from mcl_ray.data.entries import files_below, is_hidden
from mcl_ray.errors import DataError

SUFFIXES = (".parquet", ".pq")
_PART = re.compile(r"(.+)-(\d{1,6})-of-(\d{1,6})\b.*", re.DOTALL)
"""Pattern of the names that the Hugging Face hub gives to the files of a split."""


def parquet_files(folder: Path) -> tuple[list[Path], dict[str, int]]:
    """Return the Parquet files of a folder in the order of their names, and what is left out.

    Raises:
        DataError: there is none.
    """
    below = [Path(entry.path) for entry in files_below(folder)] if folder.is_dir() else []
    below = [file for file in below if not any(map(_is_passed_over, file.relative_to(folder).parts))]
    found = [file for file in below if _is_parquet(file)]
    if not found:
        raise DataError(
            f"data.source=parquet requires a file, or a folder of *.parquet, but {printable(folder)} is neither"
        )
    others = [file for file in below if not _is_parquet(file)]
    kinds = {
        "files that are not *.parquet": [file for file in others if file.suffix.lower() not in SUFFIXES],
        "links to nothing, or special files": [file for file in others if file.suffix.lower() in SUFFIXES],
        "files that are missing": _missing_parts(found),
    }
    return found, {
        f"{words}, as {printable(of_kind[0].relative_to(folder))}": len(of_kind)
        for words, of_kind in kinds.items()
        if of_kind
    }


def _missing_parts(files: list[Path]) -> list[Path]:
    """Return the files that are missing by the names of the others, as train-00001-of-00002.parquet."""
    numbers: dict[tuple[Path, str, int, str], set[int]] = {}
    for file in files:
        if match := _PART.fullmatch(file.name):
            stem, number, total = match.groups()
            numbers.setdefault((file.parent, stem, len(number), total), set()).add(int(number))
    return [
        folder / f"{stem}-{part:0{digits}}-of-{total}.parquet"
        for (folder, stem, digits, total), there in numbers.items()
        for part in range(int(total))
        if part not in there
    ]


def _is_parquet(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and os.path.isfile(file)  # noqa: PTH113 -- false of any link to nothing


def _is_passed_over(name: str) -> bool:
    """Return whether an entry is hidden, or of the program that wrote the files, as _SUCCESS and _temporary."""
    return is_hidden(name) or name.startswith("_")
