"""Where the values of a searched parameter go on an axis: linear, logarithmic or one place per category.

The same places serve the files of `plots.py` and the page of `interactive.py`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mcl_ray.analysis.ranking import Ranked
from mcl_ray.reports.terminal import parameters_of, setting, shortened
from mcl_ray.results.queries import short_names

LOG_FROM_RATIO = 20.0
FEW_VALUES = 6
MIN_GAP = 0.09
LONGEST_TICK = 16


@dataclass(frozen=True, kw_only=True)
class ParameterAxis:
    """One parameter of a ranking."""

    parameter: str
    label: str
    kind: Literal["linear", "log", "category"]
    places: tuple[float, ...]
    """Where each row lies; on a log axis the power of ten."""
    ticks: tuple[tuple[float, str], ...]
    """Places that carry a label."""

    @property
    def limits(self) -> tuple[float, float]:
        """From the lowest to the highest place; a single place lies in the middle."""
        low, high = min(self.places), max(self.places)
        return (low, high) if high > low else (low - 0.5, high + 0.5)


def parameter_axes(rows: Sequence[Ranked]) -> list[ParameterAxis]:
    """One axis per searched parameter, for these rows; none without rows."""
    parameters = parameters_of(rows)
    names = short_names(parameters)
    return [_axis(name, names[name], [row.searched.get(name) for row in rows]) for name in parameters]


def _axis(parameter: str, label: str, values: Sequence[Any]) -> ParameterAxis:
    numbers = [float(value) for value in values if _is_number(value)]
    if not numbers or any(value is not None and not _is_number(value) for value in values):
        return _category_axis(parameter, label, values)
    above = [value for value in numbers if value > 0]
    is_log = min(numbers) >= 0 and len(above) > 1 and max(above) / min(above) >= LOG_FROM_RATIO
    places = {value: math.log10(value) if is_log else value for value in numbers if value > 0 or not is_log}
    span = max(places.values()) - min(places.values())
    # What has no place on the scale, zero among powers of ten or a parameter a trial did not have, lies below it.
    outside = [special for special, found in ((0.0, is_log and 0.0 in numbers), (None, None in values)) if found]
    ticks = _ticks(sorted(places), is_log)
    below = {
        special: min(places.values()) - 0.2 * (span or 1.0) * rank for rank, special in enumerate(outside, start=1)
    }
    located = tuple(below[value] if value in below else places[float(value)] for value in values)
    labelled = [(place, setting(special)) for special, place in below.items()]
    kind: Literal["linear", "log"] = "log" if is_log else "linear"
    return ParameterAxis(parameter=parameter, label=label, kind=kind, places=located, ticks=(*labelled, *ticks))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _category_axis(parameter: str, label: str, values: Sequence[Any]) -> ParameterAxis:
    names = [setting(value) for value in values]
    places = {name: float(place) for place, name in enumerate(sorted(set(names)))}
    ticks = tuple((place, shortened(name, LONGEST_TICK)) for name, place in places.items())
    located = tuple(places[name] for name in names)
    return ParameterAxis(parameter=parameter, label=label, kind="category", places=located, ticks=ticks)


def _ticks(values: Sequence[float], is_log: bool) -> list[tuple[float, str]]:
    """At the values where they are few and apart, at round numbers otherwise."""
    places = [math.log10(value) if is_log else value for value in values if value > 0 or not is_log]
    span = places[-1] - places[0]
    gaps = [after - before for before, after in itertools.pairwise(places)]
    if len(places) == 1 or (len(places) <= FEW_VALUES and min(gaps) >= MIN_GAP * span):
        shown = [value for value in values if value > 0 or not is_log]
    elif is_log:
        shown = _round_powers(places[0], places[-1])
    else:
        shown = _round_steps(places[0], places[-1])
    return [(math.log10(value) if is_log else value, f"{value:.4g}") for value in shown]


def _round_powers(low: float, high: float) -> list[float]:
    mantissas = (1,) if high - low >= 3 else (1, 3) if high - low >= 1.5 else (1, 2, 5)
    powers = range(math.floor(low), math.ceil(high) + 1)
    numbers = [mantissa * 10.0**power for power in powers for mantissa in mantissas]
    inside = [number for number in numbers if low - 1e-9 <= math.log10(number) <= high + 1e-9]
    return inside[:: max(1, math.ceil(len(inside) / FEW_VALUES))]


def _round_steps(low: float, high: float) -> list[float]:
    power = 10.0 ** math.floor(math.log10(high - low))
    step = next(power * part for part in (0.1, 0.2, 0.25, 0.5, 1, 2) if (high - low) / (power * part) <= FEW_VALUES)
    count = math.floor(high / step + 1e-9) - math.ceil(low / step - 1e-9) + 1
    return [round((math.ceil(low / step - 1e-9) + place) * step, 12) for place in range(count)]


def scored(rows: Sequence[Ranked]) -> list[Ranked]:
    """The rows that have a score, best first."""
    return [row for row in rows if row.score is not None]


def values_of(rows: Sequence[Ranked]) -> list[float]:
    """The scores of rows that have one."""
    return [row.score for row in rows if row.score is not None]
