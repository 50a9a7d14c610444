"""Labels of Parquet files: the classes of each file, and those of all files together.

Every distinct label is a class of its own: labels are compared as Python's values, never as numbers of a wider type.
Floats, decimals and booleans are read as integers, if each of a file is a whole number that its type holds exactly.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mcl_ray.data.whole_labels import exact_below, whole_labels
from mcl_ray.errors import DataError

UNLABELLED = -1
"""Label of rows without one: the code of this module, and Hugging Face's in a column of ClassLabel."""
Key = int | str


class FileLabels(NamedTuple):
    """Labels of one file."""

    keys: Sequence[Key]
    """[K], distinct labels of the rows."""
    codes: NDArray[np.int64]
    """[n], indices into `keys`; UNLABELLED for rows without a label."""
    names: Sequence[str] | None
    """Names of all classes in their order, if the file's schema has them."""


class Labels(NamedTuple):
    """Labels of all files."""

    class_names: tuple[str, ...]
    """[C]."""
    codes: NDArray[np.int64]
    """[n], indices into `class_names`; UNLABELLED for rows without a label."""


def read_labels(column: pa.ChunkedArray, name: str, description: str, metadata: Mapping[bytes, bytes]) -> FileLabels:
    """Return the labels of a column.

    Args:
        column: whole numbers or names, plain or dictionary-encoded.
        name: the column's name.
        description: the column for error messages.
        metadata: metadata of the file's schema; those that Hugging Face's `datasets` writes have the names of classes.

    Raises:
        DataError: the column holds neither, a number that is not whole, or one without a name.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if pa.types.is_null(kind) or not len(column):  # a program that writes no rows knows no type
        return FileLabels([], np.full(len(column), UNLABELLED), None)
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    is_whole = pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind)
    if not is_text and not is_whole and not pa.types.is_integer(kind):
        raise DataError(f"labels must be whole numbers or names, but {description} has {kind}")
    encodable = pa.float32() if pa.types.is_float16(kind) else kind
    plain = column.cast(pa.large_string() if is_text else encodable).combine_chunks()
    encoded = plain.dictionary_encode()
    try:
        values = encoded.dictionary.to_pylist()
    except UnicodeDecodeError as error:
        raise DataError(f"the names of classes must be UTF-8, but {description} has others: {error}") from error
    below = exact_below(kind.to_pandas_dtype()) if pa.types.is_floating(kind) else math.inf
    keys: Sequence[Key] = whole_labels(values, below, description) if is_whole else values
    codes = encoded.indices.fill_null(UNLABELLED).to_numpy().astype(np.int64)
    names = None if is_text else _class_label_names(metadata, name)
    return FileLabels(keys, codes, None) if names is None else _named(keys, codes, names, description)


def join_labels(files: Sequence[FileLabels]) -> Labels:
    """Return the labels of all files, with the classes in the order of the files' own names, or sorted.

    Raises:
        DataError: some files have numbers, and others names.
    """
    keys = {key for file in files for key in file.keys}
    numbers = [key for key in keys if isinstance(key, int)]
    texts = [key for key in keys if isinstance(key, str)]
    if numbers and texts:
        raise DataError(
            f"labels must be all numbers or all names, but got numbers ({min(numbers)}) and names ({min(texts)!r})"
        )
    given = next((file.names for file in files if file.names is not None), ())
    agreed = all(file.names is None or list(file.names) == list(given) for file in files)
    first = [name for name in given if name in keys] if agreed else []
    ordered: list[Key] = [*first, *sorted(set(texts) - set(first)), *sorted(numbers)]
    position = {key: index for index, key in enumerate(ordered)}
    codes = [
        np.array([*(position[key] for key in file.keys), UNLABELLED], np.int64)[file.codes]  # -1 is the last one
        for file in files
    ]
    return Labels(tuple(map(str, ordered)), np.concatenate(codes))


def _class_label_names(metadata: Mapping[bytes, bytes], column: str) -> list[str] | None:
    """Return the names of a ClassLabel column in the metadata that Hugging Face's `datasets` writes."""
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][column]
        names = feature["names"] if feature["_type"] == "ClassLabel" else None
    except (KeyError, TypeError, ValueError):
        return None
    if not isinstance(names, list) or len(set(map(str, names))) < len(names):
        return None
    return [str(name) for name in names]


def _named(keys: Sequence[Key], codes: NDArray[np.int64], names: list[str], description: str) -> FileLabels:
    """Replace numbers by the names of their classes; −1 stands for no label."""
    beyond = [key for key in keys if not isinstance(key, int) or not UNLABELLED <= key < len(names)]
    if beyond:
        raise DataError(
            f"every label must have a name, but {description} has {beyond[0]} and {len(names)} names in its metadata"
        )
    labelled = [key for key in keys if key != UNLABELLED]
    position = {key: index for index, key in enumerate(labelled)}
    moved = np.array([*(position.get(key, UNLABELLED) for key in keys), UNLABELLED], np.int64)
    return FileLabels([names[int(key)] for key in labelled], moved[codes], names)
