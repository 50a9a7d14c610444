"""What a configuration costs: the columns of the runs table that a sweep can minimise, their means, their units.

Which of them a sweep minimises is its spec's to say.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcl_ray.errors import SpecError

COSTS = ("parameters", "multiply_adds", "wall_time_s")
LABELS = {
    "parameters": "Parameters of the cohort",
    "multiply_adds": "Multiply-adds per image, cohort",
    "wall_time_s": "Wall time of a run",
}
SHORT_LABELS = {"parameters": "params", "multiply_adds": "mult-adds", "wall_time_s": "wall time"}


@dataclass(frozen=True)
class Unit:
    """What a cost is counted in."""

    size: float
    symbol: str
    name: str


COUNTS = (Unit(1e9, "G", "billions"), Unit(1e6, "M", "millions"), Unit(1e3, "k", "thousands"), Unit(1.0, "", ""))
TIMES = (Unit(3600.0, "h", "h"), Unit(60.0, "min", "min"), Unit(1.0, "s", "s"))


def check_costs(names: Iterable[str]) -> None:
    """Raises SpecError for a name that is no cost."""
    unknown = [name for name in names if name not in COSTS]
    if unknown:
        raise SpecError(f"a cost is {', '.join(COSTS)}, but got {', '.join(unknown)}")


def mean_costs(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The mean over runs of every cost that is known of all of them."""
    columns = {name: [run[name] for run in runs] for name in COSTS}
    return {
        name: statistics.fmean(values)
        for name, values in columns.items()
        if values and all(v is not None for v in values)
    }


def unit_of(cost: str, values: Iterable[float]) -> Unit:
    """The unit in which the largest of these values is a readable number."""
    largest = max(values, default=0.0)
    units, least = (TIMES, 2.0) if cost == "wall_time_s" else (COUNTS, 1.0)
    return next((unit for unit in units if largest >= least * unit.size), units[-1])


def short_label(cost: str, unit: Unit) -> str:
    """For a column: `params, M`."""
    return f"{SHORT_LABELS[cost]}, {unit.symbol}" if unit.symbol else SHORT_LABELS[cost]


def label(cost: str, unit: Unit) -> str:
    """For an axis: `Parameters of the cohort (millions)`."""
    return f"{LABELS[cost]} ({unit.name})" if unit.name else LABELS[cost]
