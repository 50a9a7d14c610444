"""Search spaces as data: the values that a field may take, and under which conditions; without Ray and Optuna.

A space maps fields to dimensions, a point maps the active fields to values; both name fields by full path, and in a
space a field comes after those that its conditions name. `fields.py` completes a space that a user wrote.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import product
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from mcl_ray.config.effects import acts, partial
from mcl_ray.config.overrides import replace
from mcl_ray.config.spec import Count, Positive, RunSpec
from mcl_ray.config.spec_part import Part

MAX_STEPS = 10_000
MAX_GRID = 10_000
STEP_RESOLUTION = 1e9
"""Minimum of a step, in units of the last place of the bounds: Optuna accepts a value that is off its step by 1e-8."""

Bound = Annotated[float, Field(allow_inf_nan=False)]
Scalar = bool | int | float | str
Value = Scalar | tuple[Scalar, ...]
"""Value of a field; a list of one entry and that entry are the same value."""
Point = Mapping[str, Value]
Values = Annotated[tuple[Value, ...], Field(min_length=1)]

Conditions = Annotated[dict[str, Values], Field(default_factory=dict)]
"""Other field of the space → values of it. A dimension is active where every such field is, and has one of its values;
where it is not active, the run keeps its own value."""


class _Dimension(Part):
    """Base of all dimensions."""

    _used_in: tuple[str, RunSpec] | None = PrivateAttr(None)
    """Full path of the field, and the run whose other fields decide whether it has an effect; None: it always has."""

    def used_in(self, run: RunSpec, path: str) -> Self:
        """Return a copy that is active only where the field of this path has an effect in the run."""
        bound = self.model_copy()
        bound._used_in = (path, run)
        return bound

    @property
    def may_lack_effect(self) -> bool:
        """Return whether the field has an effect at some points only, or at none."""
        return self._used_in is not None

    def has_effect(self, point: Point) -> bool:
        """Return whether the field has an effect, given the values of all active fields before it."""
        if self._used_in is None:
            return True
        path, run = self._used_in
        return acts(partial(run, _with_size(point)), path)

    @abstractmethod
    def match(self, value: object) -> Value | None:
        """Return the value in this dimension's spelling; None if it is not one of its values."""

    def __contains__(self, value: object) -> bool:
        return self.match(value) is not None


class FloatRange(_Dimension):
    """Any real number from `low` to `high`, both included, or every `step`-th."""

    kind: Literal["float"] = "float"
    low: Bound
    high: Bound
    log: bool = False
    """Logarithmic scale: values are drawn evenly over orders of magnitude."""
    step: Positive | None = None
    """Distance of neighbouring values; null: any real number."""
    when: Conditions

    @model_validator(mode="after")
    def _bounds(self) -> FloatRange:
        _check_bounds(self.low, self.high, self.step)
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range needs low > 0, but got low={self.low}")
        if self.step is not None and (self.high - self.low) / self.step > MAX_STEPS:
            raise ValueError(
                f"real numbers have at most {MAX_STEPS:,} steps, but got low={self.low}, high={self.high}, "
                f"step={self.step}"
            )
        if self.log and self.step is not None:
            raise ValueError(f"a logarithmic range has no steps, but got log=true, step={self.step}")
        if not math.isfinite(self.high - self.low):
            raise ValueError(f"high - low must be a finite number, but got low={self.low}, high={self.high}")
        resolution = STEP_RESOLUTION * math.ulp(max(abs(self.low), abs(self.high)))
        if self.step is not None and self.step < resolution:
            raise ValueError(
                f"steps must be distinct beside the bounds, `step >= {resolution:.2g}`, but got "
                f"low={self.low}, high={self.high}, step={self.step}"
            )
        return self

    def ends(self) -> tuple[Value, ...]:
        """Return the values with which a rule on the field is checked."""
        return self.low, self.high

    def match(self, value: object) -> float | None:
        """Return the value in this dimension's spelling; None if it is not one of its values."""
        if not isinstance(value, int | float) or not self.low <= value <= self.high:
            return None
        if self.step is None:
            return float(value)
        steps = (value - self.low) / self.step
        return self._after(round(steps)) if abs(steps - round(steps)) < 1e-8 else None

    def all_values(self) -> Sequence[Value]:
        """Return every step, in order.

        Raises:
            ValueError: the range has no steps.
        """
        if self.step is None:
            raise ValueError("a grid has every value of a range once, so that real numbers need a step, but got none")
        return [self._after(steps) for steps in range(round((self.high - self.low) / self.step) + 1)]

    def _after(self, steps: int) -> float:
        """Return the value after so many steps, in decimal as it was written: 0.1 + 2 * 0.1 is 0.3."""
        return float(_exact(self.low) + steps * _exact(self.step or 0))


class IntRange(_Dimension):
    """Any whole number from `low` to `high`, both included, or every `step`-th."""

    kind: Literal["int"]
    low: int
    high: int
    log: bool = False
    """Logarithmic scale: values are drawn evenly over orders of magnitude."""
    step: Count = 1
    """Distance of neighbouring values."""
    when: Conditions

    @model_validator(mode="after")
    def _bounds(self) -> IntRange:
        _check_bounds(self.low, self.high, self.step)
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range needs low > 0, but got low={self.low}")
        if self.log and self.step != 1:
            raise ValueError(f"a logarithmic range has no steps, but got log=true, step={self.step}")
        return self

    def ends(self) -> tuple[Value, ...]:
        """Return the values with which a rule on the field is checked."""
        return self.low, self.high

    def match(self, value: object) -> int | None:
        """Return the value in this dimension's spelling; None if it is not one of its values."""
        return int(value) if isinstance(value, int) and value in self._range else None

    def all_values(self) -> Sequence[Value]:
        """Return every value, in order.

        Raises:
            ValueError: the range is logarithmic.
        """
        if self.log:
            raise ValueError("a grid has every value of a range once, so that log=true has no effect")
        return self._range

    @property
    def _range(self) -> range:
        return range(self.low, self.high + 1, self.step)


class Choice(_Dimension):
    """One of a few values, each a scalar or, for a field that takes one, a list."""

    kind: Literal["choice"]
    values: Values
    when: Conditions

    @field_validator("values")
    @classmethod
    def _distinct(cls, values: tuple[Value, ...]) -> tuple[Value, ...]:
        for index, value in enumerate(values):
            if any(same(value, other) for other in values[:index]):
                raise ValueError(f"a choice has every value once, but {value!r} is there twice")
        return values

    def ends(self) -> tuple[Value, ...]:
        """Return the values with which a rule on the field is checked."""
        return self.values

    def match(self, value: object) -> Value | None:
        """Return the value in this dimension's spelling; None if it is not one of its values."""
        return next((own for own in self.values if same(own, value)), None)

    def all_values(self) -> Sequence[Value]:
        """Return every value, in order."""
        return self.values


Dimension = Annotated[FloatRange | IntRange | Choice, Field(discriminator="kind")]
Space = dict[str, Dimension]


def num_values(dimension: Dimension) -> int:
    """Return the number of values of a dimension; 0 if it has all real numbers of a range."""
    if isinstance(dimension, Choice):
        return len(dimension.values)
    if isinstance(dimension, IntRange):
        return (dimension.high - dimension.low) // dimension.step + 1
    return 0 if dimension.step is None else len(dimension.all_values())


def applies(dimension: Dimension, point: Point) -> bool:
    """Return whether the dimension is active, given the values of all active fields before it.

    It is where its conditions hold and its field has an effect.
    """
    return meets_conditions(dimension, point) and dimension.has_effect(point)


def meets_conditions(dimension: Dimension, point: Point) -> bool:
    """Return whether the conditions of the dimension hold, whether or not its field has an effect."""
    return all(
        parent in point and any(same(value, point[parent]) for value in values)
        for parent, values in dimension.when.items()
    )


def active(space: Mapping[str, Dimension], point: Point) -> tuple[str, ...]:
    """Return the fields that are active at a point, in order, whether the point has them or not."""
    names: list[str] = []
    before: dict[str, Value] = {}
    for path, dimension in space.items():
        if applies(dimension, before):
            names.append(path)
            before |= {path: point[path]} if path in point else {}
    return tuple(names)


def contains(space: Mapping[str, Dimension], point: Point) -> bool:
    """Return whether the point has the active fields, each with one of its values, and no others."""
    return set(active(space, point)) == set(point) and all(value in space[path] for path, value in point.items())


def grid(space: Mapping[str, Dimension]) -> list[dict[str, Value]]:
    """Return every point of the space once, without fields that have no effect at it; the last field varies fastest.

    Raises:
        ValueError: the points cannot be listed, and why.
    """
    conditional = [path for path, dimension in space.items() if dimension.when]
    if conditional:
        raise ValueError(f"a grid has every field at every point, but {', '.join(conditional)} has a condition")
    columns, points = [], 1
    for path, dimension in space.items():
        try:
            columns.append(dimension.all_values())
        except ValueError as error:
            raise ValueError(f"search space, {path}: {error}") from error
        points *= len(columns[-1])
    if points > MAX_GRID:
        raise ValueError(f"a grid has at most {MAX_GRID:,} points, but this one has {points:,}")
    combined = (dict(zip(space, values, strict=True)) for values in product(*columns))
    return _distinct_points(active_part(space, point) for point in combined)


def active_part(space: Mapping[str, Dimension], point: Point) -> dict[str, Value]:
    """Return a point without its inactive fields; fields that are not in the space stay."""
    inactive = space.keys() - set(active(space, point))
    return {path: value for path, value in point.items() if path not in inactive}


def _distinct_points(points: Iterable[dict[str, Value]]) -> list[dict[str, Value]]:
    return list({tuple(point.items()): point for point in points}.values())


def applied(run: RunSpec, point: Mapping[str, Any]) -> RunSpec:
    """Return the run with the point's values; a list of several networks sets cohort.size, unless the point does.

    Raises:
        SpecError: the values are not valid together.
    """
    return replace(run, _with_size(point))


def _with_size(point: Mapping[str, Any]) -> dict[str, Any]:
    """Return the point with the number of peers that its list of networks sets, unless it has one."""
    names = point.get("cohort.networks")
    if isinstance(names, list | tuple) and len(names) > 1:
        return {"cohort.size": len(names), **point}
    return dict(point)


def _check_bounds(low: float, high: float, step: float | None) -> None:
    if low >= high:
        raise ValueError(f"a range needs low < high, but got low={low}, high={high}")
    if step is None:
        return
    if (_exact(high) - _exact(low)) % _exact(step):
        raise ValueError(f"a range must end on a step, but got low={low}, high={high}, step={step}")


def _exact(number: float) -> Fraction:
    return Fraction(str(number))


def same(one: object, other: object) -> bool:
    """Return whether two spellings are the same value."""
    return _plain(one) == _plain(other)


def _plain(value: object) -> object:
    entries = tuple(value) if isinstance(value, list) else value
    return entries[0] if isinstance(entries, tuple) and len(entries) == 1 else entries
