"""Image columns of Parquet: encoded images as bytes, as lists of the numbers 0..255, or in a struct with `bytes`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mcl_ray.data.decoding import DecodingError, decode_rgb
from mcl_ray.errors import DataError

IMAGES_TRIED = 16
"""Number of lists of numbers of which one must be an image; others are pixels, or features."""
_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


class ImageType(NamedTuple):
    """Type of a column of encoded images."""

    in_struct: bool
    """True if they are the field `bytes` of a struct, as of Hugging Face."""
    is_list: bool
    """True if they are lists of numbers, as of NumPy's arrays."""


def image_type(kind: pa.DataType) -> ImageType | None:
    """Return the type of a column's images; None if it holds none."""
    in_struct = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    inner = kind.field("bytes").type if in_struct else kind
    plain = inner.value_type if pa.types.is_dictionary(inner) else inner
    is_list = any(is_kind(plain) for is_kind in _LISTS) and pa.types.is_integer(plain.value_type)
    is_null = pa.types.is_null(plain)  # of rows that all lack an image
    is_image = is_null or is_list or any(is_kind(plain) for is_kind in _BYTES)
    return ImageType(in_struct, is_list) if is_image else None


def images_of(column: pa.Array, kind: ImageType, description: str) -> pa.Array:
    """Return the encoded images of a column, as large_binary.

    Args:
        column: the column.
        kind: its type.
        description: the column for error messages.

    Raises:
        DataError: a list holds other numbers than 0..255, or no number.
    """
    images = pc.struct_field(column, "bytes") if kind.in_struct else column
    return _from_lists(images, description) if kind.is_list else images.cast(pa.large_binary())


def _from_lists(lists: pa.Array, description: str) -> pa.Array:
    numbers = lists.flatten()
    try:
        octets = numbers.cast(pa.uint8())
    except pa.ArrowInvalid as error:
        raise DataError(
            f"a list of an image's bytes must hold numbers 0..255, but {description} has: {error}"
        ) from error
    if octets.null_count:
        raise DataError(
            f"a list of an image's bytes must hold numbers 0..255, but {description} has one without a value"
        )
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    is_valid = pa.array(lists.is_valid().to_numpy(zero_copy_only=False))
    buffers = [is_valid.buffers()[1], pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(octets.to_numpy()))]
    return pa.Array.from_buffers(pa.large_binary(), len(lists), buffers)


def check_lists_are_images(images: pa.Array, description: str) -> None:
    """Check that one of the first images is an image: lists of numbers may also be pixels, or features.

    Raises:
        DataError: none of the first `IMAGES_TRIED` decodes.
    """
    reasons = list[str]()
    for image in images.drop_null()[:IMAGES_TRIED].to_pylist():
        try:
            decode_rgb(image)
            return
        except DecodingError as error:
            reasons.append(str(error))
    if reasons:
        raise DataError(
            f"a list of numbers must be the bytes of an encoded image, but the first {len(reasons)} of {description} "
            f"are none: {reasons[0]}; if they are pixels, use data.source=npz"
        )
