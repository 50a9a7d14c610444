"""How the figures of one configuration's seeds become its score, and when too few of them live for one.

Knows neither files nor tables: whoever trains, searches or reads asks here.
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
"""The first two are columns of the runs table; the last is `results.queries.training_times`."""
EARLIER_NAMES = {"wall_time_s": "training_time_s"}
"""Name in the specs of earlier sweeps → what it is now. Wall time also counts the start of a run's process."""
RULE = (
    "Seeds without a figure are left out while more than half of the planned seeds have one; "
    "otherwise the configuration has failed and has no score."
)


@dataclass(frozen=True)
class Score:
    """One number of the figures of several seeds."""

    kind: ScoreKind = "mean"
    k: float = 1.0
    """Of mean_minus_std: how many standard deviations count against the mean."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(ScoreKind):
            raise SpecError(f"a score is {', '.join(get_args(ScoreKind))}, but got {self.kind!r}")

    def of(self, values: Sequence[float], *, mode: Mode = "max") -> float:
        """The score of the seeds that live, one at least.

        `mean_minus_std` is the mean less k sample standard deviations (n - 1), for an objective that is maximised;
        for a minimised one they are added, so that spread counts against a configuration either way. One seed has no
        spread: its score is its figure.
        """
        assert values, "a score is of one figure or more, but got none"
        if self.kind == "median":
            return statistics.median(values)
        mean = statistics.fmean(values)
        if self.kind == "mean" or len(values) == 1:
            return mean
        against = self.k * statistics.stdev(values)
        return mean - against if mode == "max" else mean + against

    def name(self, mode: str = "max") -> str:
        """`mean`, `median`, `mean - 0.5 std`."""
        if self.kind != "mean_minus_std":
            return self.kind
        times = "" if self.k == 1.0 else f"{self.k:g} "
        return f"mean {'-' if mode == 'max' else '+'} {times}std"

    def label(self, figure: str, mode: str = "max") -> str:
        """A figure's label with the score's name before it; the mean goes without saying."""
        return figure if self.kind == "mean" else f"{self.name(mode)} over seeds: {figure}"


def check_costs(names: Iterable[str]) -> None:
    """Raises SpecError for a name that is no cost."""
    unknown = [name for name in names if name not in COSTS]
    if unknown:
        raise SpecError(f"a cost is {', '.join(COSTS)}, but got {', '.join(unknown)}")


def current_names(names: Iterable[str]) -> tuple[str, ...]:
    """Costs as they are called now."""
    return tuple(EARLIER_NAMES.get(name, name) for name in names)


MEAN = Score()


def enough(num_living: int, num_planned: int) -> bool:
    """Whether so many seeds with a figure make a score: more than half of the planned ones must have one.

    Seeds that failed are left out while that holds; otherwise the configuration has failed as a whole.
    """
    return 2 * num_living > num_planned


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What a sweep's stored spec says about its figures; a sweep older than these fields has the defaults."""

    score: Score = MEAN
    repeats: int = 1
    """Seeds of every configuration."""
    costs: tuple[str, ...] = ()
    """Minimised beside the objective."""

    def __post_init__(self) -> None:
        check_costs(self.costs)

    @classmethod
    def parse(cls, spec_json: str) -> Scoring:
        """Reads `score`, `repeats` and `costs` of a sweep's spec.

        Raises:
            SpecError: a kind of score or a cost that is none.
        """
        spec = json.loads(spec_json)
        score = Score(**(spec.get("score") or {}))
        return cls(score=score, repeats=spec.get("repeats", 1), costs=current_names(spec.get("costs", ())))


PLAIN = Scoring()
"""One seed, no cost."""
