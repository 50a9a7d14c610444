"""Labels that are whole numbers of another type than integers: floats, decimals and booleans."""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal

import numpy as np
from numpy.typing import DTypeLike

from mcl_ray.errors import DataError


def exact_below(kind: DTypeLike) -> int:
    """Return the number below which every integer is a value of this type of floats: 2**53 of float64."""
    return int(2 ** (int(np.finfo(np.dtype(kind)).nmant) + 1))


def whole_labels(values: Iterable[float | Decimal], below: float, description: str) -> list[int]:
    """Return labels as integers: 2.0 is 2, and True is 1.

    Args:
        values: the labels.
        below: their type holds every integer below it. Larger labels are refused: two may have become one by rounding.
        description: the labels for error messages.

    Raises:
        DataError: one is not a whole number, not finite, or too large.
    """
    given = list(values)
    for value in given:
        if not (math.isfinite(value) and value == int(value) and -below < value < below):
            limit = "" if math.isinf(below) else f", and below {below:,}"
            raise DataError(f"labels that are numbers must be whole{limit}, but {description} has {value}")
    return [int(value) for value in given]
