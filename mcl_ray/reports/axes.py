"""Axes of searched parameters: linear, logarithmic, or one position per category.

The PNG figures of `plots.py` and the page of `interactive.py` share them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mcl_ray.analysis.ranking import Ranked
from mcl_ray.reports.labels import parameters_of, setting, short_names, shortened

LOG_FROM_RATIO = 20.0
"""Ratio of the largest to the smallest positive value from which an axis is logarithmic."""
MAX_TICKS = 6
MIN_GAP = 0.09
"""Smallest gap between ticks, as a share of the axis."""
MAX_TICK_LENGTH = 16
"""Characters of a tick's label."""
NO_FIELDS: Mapping[str, bool] = {}


@dataclass(frozen=True, kw_only=True)
class ParameterAxis:
    """The axis of one searched parameter, for the rows of a ranking."""

    parameter: str
    label: str
    kind: Literal["linear", "log", "category"]
    positions: tuple[float, ...]
    """Position of each row; on a logarithmic axis, the exponent to base ten."""
    ticks: tuple[tuple[float, str], ...]
    """Positions with a tick, and their labels."""

    @property
    def limits(self) -> tuple[float, float]:
        """Lowest and highest position; a single position is centred."""
        low, high = min(self.positions), max(self.positions)
        return (low, high) if high > low else (low - 0.5, high + 0.5)


def parameter_axes(rows: Sequence[Ranked], log_fields: Mapping[str, bool] = NO_FIELDS) -> list[ParameterAxis]:
    """Return one axis per searched parameter of these rows.

    Args:
        rows: Configurations of a ranking.
        log_fields: Parameter → whether its axis is logarithmic, as it was searched; others follow from their values.
    """
    parameters = parameters_of(rows)
    names = short_names(parameters)
    return [
        _axis(name, names[name], [row.searched.get(name) for row in rows], log_fields.get(name)) for name in parameters
    ]


def epoch_axis(rows: Sequence[Ranked]) -> ParameterAxis | None:
    """Return the axis of the epochs that the figures are of; None if all rows trained equally long."""
    epochs = [row.epochs_done for row in rows]
    return _axis("epoch", "epoch of the figure", epochs) if len(set(epochs)) > 1 else None


def _axis(parameter: str, label: str, values: Sequence[Any], has_log: bool | None = None) -> ParameterAxis:
    numbers = [float(value) for value in values if _is_number(value)]
    if not numbers or any(value is not None and not _is_number(value) for value in values):
        return _category_axis(parameter, label, values)
    above = [value for value in numbers if value > 0]
    is_log = min(numbers) >= 0 and len(above) > 1 and max(above) / min(above) >= LOG_FROM_RATIO
    is_log = is_log if has_log is None else has_log and min(numbers) >= 0 and bool(above)
    position_of = {value: math.log10(value) if is_log else value for value in numbers if value > 0 or not is_log}
    span = max(position_of.values()) - min(position_of.values())
    # Below the scale: zero on a logarithmic axis, and the missing value of a trial without this parameter.
    outside = [special for special, found in ((0.0, is_log and 0.0 in numbers), (None, None in values)) if found]
    ticks = _ticks(sorted(position_of), is_log)
    below = {
        special: min(position_of.values()) - 0.2 * (span or 1.0) * rank for rank, special in enumerate(outside, start=1)
    }
    positions = tuple(below[value] if value in below else position_of[float(value)] for value in values)
    special_ticks = [(position, setting(special)) for special, position in below.items()]
    kind: Literal["linear", "log"] = "log" if is_log else "linear"
    return ParameterAxis(
        parameter=parameter, label=label, kind=kind, positions=positions, ticks=(*special_ticks, *ticks)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _category_axis(parameter: str, label: str, values: Sequence[Any]) -> ParameterAxis:
    names = [setting(value) for value in values]
    position_of = {name: float(position) for position, name in enumerate(sorted(set(names)))}
    ticks = tuple((position, shortened(name, MAX_TICK_LENGTH)) for name, position in position_of.items())
    positions = tuple(position_of[name] for name in names)
    return ParameterAxis(parameter=parameter, label=label, kind="category", positions=positions, ticks=ticks)


def _ticks(values: Sequence[float], is_log: bool) -> list[tuple[float, str]]:
    """Return ticks at the values if they are few and far enough apart, otherwise at round numbers."""
    positions = [math.log10(value) if is_log else value for value in values if value > 0 or not is_log]
    span = positions[-1] - positions[0]
    gaps = [after - before for before, after in itertools.pairwise(positions)]
    if len(positions) == 1 or (len(positions) <= MAX_TICKS and min(gaps) >= MIN_GAP * span):
        marked = [value for value in values if value > 0 or not is_log]
    elif is_log:
        marked = _round_powers(positions[0], positions[-1])
    else:
        marked = _round_steps(positions[0], positions[-1])
    return [(math.log10(value) if is_log else value, f"{value:.4g}") for value in marked]


def _round_powers(low: float, high: float) -> list[float]:
    mantissas = (1,) if high - low >= 3 else (1, 3) if high - low >= 1.5 else (1, 2, 5)
    powers = range(math.floor(low), math.ceil(high) + 1)
    numbers = [mantissa * 10.0**power for power in powers for mantissa in mantissas]
    inside = [number for number in numbers if low - 1e-9 <= math.log10(number) <= high + 1e-9]
    return inside[:: max(1, math.ceil(len(inside) / MAX_TICKS))]


def _round_steps(low: float, high: float) -> list[float]:
    power = 10.0 ** math.floor(math.log10(high - low))
    step = next(power * part for part in (0.1, 0.2, 0.25, 0.5, 1, 2) if (high - low) / (power * part) <= MAX_TICKS)
    count = math.floor(high / step + 1e-9) - math.ceil(low / step - 1e-9) + 1
    return [round((math.ceil(low / step - 1e-9) + position) * step, 12) for position in range(count)]


def scored(rows: Sequence[Ranked]) -> list[Ranked]:
    """Return the rows that have a score, best first, without those for comparison, which lie outside of the space."""
    return [row for row in rows if row.score is not None and not row.is_compared]


def values_of(rows: Sequence[Ranked]) -> list[float]:
    """Return the scores of the rows that have one."""
    return [row.score for row in rows if row.score is not None]
