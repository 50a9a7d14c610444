"""The score of a configuration, computed from its seeds' values, and the rule for seeds that failed.

Reads no files and no tables; training, searches and analysis all use these functions.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from mcl_ray.errors import SpecError

ScoreKind = Literal["mean", "median", "mean_minus_std"]
Mode = Literal["max", "min"]
COSTS = ("parameters", "multiply_adds", "training_time_s")
"""Objectives to minimise: the first two are columns of the runs table, the last is `results.queries.training_times`."""
EARLIER_NAMES = {"wall_time_s": "training_time_s"}
"""Cost names in specs of earlier releases → current names. Wall time also includes the start of a run's process."""
RULE = (
    "Seeds without a figure are left out while more than half of the planned seeds have one; "
    "otherwise the configuration has failed and has no score. They count against it: it comes after configurations "
    "whose seeds all have a figure."
)
"""Rule for failed seeds, as reports print it."""


@dataclass(frozen=True)
class Score:
    """The statistic that combines the values of several seeds into one score.

    Raises:
        SpecError: `kind` is not a score.
    """

    kind: ScoreKind = "mean"
    """Mean, median, or mean minus k standard deviations."""
    k: float = 1.0
    """Number of standard deviations that `mean_minus_std` subtracts."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(ScoreKind):
            raise SpecError(f"score must be one of {', '.join(get_args(ScoreKind))}, but got {self.kind!r}")

    def of(self, values: Sequence[float], *, mode: Mode = "max") -> float:
        """Return the score of the values of all seeds that have not failed, at least one.

        `mean_minus_std` is the mean minus k sample standard deviations (n - 1) where the objective is maximised, and
        the mean plus k where it is minimised, so that a larger spread always gives a worse score. One seed has no
        spread: its score is its value.
        """
        assert values, "a score needs at least one value, but got none"
        if self.kind == "median":
            return statistics.median(values)
        mean = statistics.fmean(values)
        if self.kind == "mean" or len(values) == 1:
            return mean
        against = self.k * statistics.stdev(values)
        return mean - against if mode == "max" else mean + against

    def name(self, mode: str = "max") -> str:
        """Name of the score: `mean`, `median`, `mean - 0.5 std`."""
        if self.kind != "mean_minus_std":
            return self.kind
        times = "" if self.k == 1.0 else f"{self.k:g} "
        return f"mean {'-' if mode == 'max' else '+'} {times}std"

    def label(self, metric: str, mode: str = "max") -> str:
        """Return a metric's label, preceded by the score's name unless it is the mean."""
        return metric if self.kind == "mean" else f"{self.name(mode)} over seeds: {metric}"


def check_costs(names: Iterable[str]) -> None:
    """Check that every name is a cost.

    Raises:
        SpecError: a name is not a cost.
    """
    unknown = [name for name in names if name not in COSTS]
    if unknown:
        raise SpecError(f"costs must be among {', '.join(COSTS)}, but got {', '.join(unknown)}")


def current_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the current names of costs, which earlier releases may have named differently."""
    return tuple(EARLIER_NAMES.get(name, name) for name in names)


MEAN = Score()


def has_enough_seeds(num_valid: int, num_planned: int) -> bool:
    """Return whether more than half of a configuration's planned seeds have a value, so that it has a score.

    Seeds that failed are left out as long as this holds; otherwise the configuration as a whole has failed.
    """
    return 2 * num_valid > num_planned


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Scoring fields of a sweep's stored spec; a sweep older than these fields has the defaults.

    Raises:
        SpecError: a cost is unknown.
    """

    score: Score = MEAN
    """Statistic over the seeds of a configuration."""
    repeats: int = 1
    """Number of seeds of every configuration."""
    costs: tuple[str, ...] = ()
    """Costs minimised together with the objective."""

    def __post_init__(self) -> None:
        check_costs(self.costs)

    @classmethod
    def parse(cls, spec_json: str) -> Scoring:
        """Read `score`, `repeats` and `costs` of a sweep's spec.

        Raises:
            SpecError: the kind of score or a cost is unknown.
        """
        spec = json.loads(spec_json)
        score = Score(**(spec.get("score") or {}))
        return cls(score=score, repeats=spec.get("repeats", 1), costs=current_names(spec.get("costs", ())))


PLAIN = Scoring()
"""Scoring of one seed without costs."""
