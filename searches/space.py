"""Search spaces as data: what values a field may take. Neither Ray nor Optuna is known here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from mcl_ray.errors import SpecError
from mcl_ray.overrides import replace, resolve
from mcl_ray.spec import Part, RunSpec

FIXED = ("version", "recipe", "data", "evaluation", "schedule.epochs")
"""What all trials of a search have in common: images, splits, when they are scored, and how long they train."""

Bound = Annotated[float, Field(allow_inf_nan=False)]
Scalar = bool | int | float | str


class FloatRange(Part):
    """Any real number from `low` to `high`, both included."""

    kind: Literal["float"] = "float"
    low: Bound
    high: Bound
    log: bool = False
    """Draw evenly over orders of magnitude."""

    @model_validator(mode="after")
    def _bounds(self) -> FloatRange:
        _check_bounds(self.low, self.high)
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range needs low > 0, but got low={self.low}")
        return self

    def ends(self) -> tuple[Scalar, ...]:
        """Values that any rule on the field can be tried with."""
        return self.low, self.high

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high


class IntRange(Part):
    """Any whole number from `low` to `high`, both included."""

    kind: Literal["int"]
    low: int
    high: int

    @model_validator(mode="after")
    def _bounds(self) -> IntRange:
        _check_bounds(self.low, self.high)
        return self

    def ends(self) -> tuple[Scalar, ...]:
        """Values that any rule on the field can be tried with."""
        return self.low, self.high

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and self.low <= value <= self.high


class Choice(Part):
    """One of a few values."""

    kind: Literal["choice"]
    values: Annotated[tuple[Scalar, ...], Field(min_length=1)]

    def ends(self) -> tuple[Scalar, ...]:
        """Values that any rule on the field can be tried with."""
        return self.values

    def __contains__(self, value: object) -> bool:
        return value in self.values


Dimension = Annotated[FloatRange | IntRange | Choice, Field(discriminator="kind")]
Space = dict[str, Dimension]


def resolved(space: Mapping[str, Any], run: RunSpec) -> dict[str, Any]:
    """The space with every field by its full path, each end tried on `run`.

    Raises:
        ValueError: the space is empty, names a field that the spec does not have or names one twice, or holds a value
            that the spec refuses.
    """
    if not space:
        raise ValueError("a search space must name one field or more, but it is empty")
    paths: dict[str, Any] = {}
    for name, dimension in space.items():
        try:
            path = resolve(RunSpec, name)
            if path.split(".")[0] in FIXED or path in FIXED:
                raise SpecError(f"trials are compared on equal terms, so {path} cannot be searched")
            for value in dimension.ends():
                replace(run, {path: value})
        except SpecError as error:
            raise ValueError(f"search space, {name}: {error}") from error
        if path in paths:
            raise ValueError(f"a search space names a field once, but {path} is there twice")
        paths[path] = dimension
    return paths


def _check_bounds(low: float, high: float) -> None:
    if low >= high:
        raise ValueError(f"a range needs low < high, but got low={low}, high={high}")
