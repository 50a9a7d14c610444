"""Names of splits in folders, names of files and columns, in upper or lower case: the words of `SPLIT_NAMES`.

They are those that the Hugging Face hub knows, and trainset, valset and testset. A source has one name for each split:
of train and training, or of Train and train, nothing says whether the second is another part of the first, or a copy.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath

from mcl_ray.data.dataset_index import TEST, TRAIN, VALIDATION
from mcl_ray.data.encoded import printable
from mcl_ray.errors import DataError

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trainset"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "valset", "dev"), VALIDATION),
    **dict.fromkeys(("test", "testing", "testset", "eval", "evaluation"), TEST),
}
"""Name of a split in lower case → split."""
_LETTERS = re.compile(r"[^\W\d_]+")
_CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")


def split_of(name: str) -> int | None:
    """Return the split of a name; None if it is none."""
    return SPLIT_NAMES.get(name.lower())


def split_name_in(path: str) -> str | None:
    """Return the name of a split in the path of a file, as it is written; None if there is none.

    The name of the file or of a folder that it is in begins with it, as train-00000-of-00002.parquet; where none does,
    one of them has it as a word, as photos_train.parquet. The deepest counts. A word ends where its letters end, or
    before a capital: TrainImages begins with train, values and trainers do not.

    Raises:
        DataError: the deepest that has such words has those of several splits.
    """
    parts = [words_of(part) for part in reversed(PurePath(path).parts)]
    for words in parts:
        if words and split_of(words[0]) is not None:
            return words[0]
    for words in parts:
        if found := [word for word in words if split_of(word) is not None]:
            if len(set(map(split_of, found))) > 1:
                raise DataError(f"the name of a file must have one split, but {printable(path)} has {', '.join(found)}")
            return found[0]
    return None


def words_of(name: str) -> list[str]:
    """Return the words of a name: its letters, up to what is none of them, or before a capital."""
    return [word for letters in _LETTERS.findall(name) for word in _CAMEL_CASE.split(letters)]


def check_one_name(names: Iterable[str], source: str) -> None:
    """Check that each split of a source has one name.

    Args:
        names: names of its splits, as they are written.
        source: the source, for the error message.

    Raises:
        DataError: two of them mean one split.
    """
    first: dict[int | None, str] = {}
    for name in sorted(set(names)):
        if (other := first.setdefault(split_of(name), name)) != name:
            raise DataError(f"each split must have one name, but {source} has {printable(other)} and {printable(name)}")
