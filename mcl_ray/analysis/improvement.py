"""The best configuration of a search against the run's own values, in a predefined search the published ones.

Both were trained with the same seeds, so that their differences are paired. Texts: `mcl_ray.reports.improvement`.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mcl_ray.analysis.certainty import interval
from mcl_ray.analysis.published_setting import flat
from mcl_ray.analysis.ranking import Ranked, best_of
from mcl_ray.analysis.roles import BASELINE
from mcl_ray.results import queries
from mcl_ray.results.queries import Objective

ROUNDING = 1 + 1e-9
"""Factor that a difference of exactly one standard error may be larger by, as both are computed in floating point."""


@dataclass(frozen=True, kw_only=True)
class Improvement:
    """The best configuration against the run's own values."""

    best: Ranked
    own: Ranked
    """Configuration of the run's own values."""
    differences: tuple[float, ...]
    """Figure of the best minus that of the run's own values, for each seed that both have."""
    mode: str = "max"

    @property
    def is_own(self) -> bool:
        """Return whether the run's own values are the best configuration."""
        return self.best.trial_id == self.own.trial_id

    @property
    def difference(self) -> float | None:
        """Mean of the paired differences; None without a seed that both have."""
        return statistics.fmean(self.differences) if self.differences else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % confidence interval of the difference, from the pairs; None for fewer than two."""
        found = interval(self.differences)
        return None if found is None else (found.low, found.high)

    @property
    def standard_error(self) -> float | None:
        """Standard error of the difference of the two means; None for fewer than two seeds of one of them."""
        if self.best.std is None or self.own.std is None:
            return None
        return math.sqrt(self.best.std**2 / self.best.n + self.own.std**2 / self.own.n)

    @property
    def is_tie(self) -> bool:
        """Return whether the best is within one standard error of the run's own values."""
        return not self.is_own and (self.standard_error is None or abs(self._ahead) <= self.standard_error * ROUNDING)

    @property
    def is_behind(self) -> bool:
        """Return whether the best has a worse mean than the run's own values, beyond one standard error.

        It ranks before them all the same if seeds of theirs failed, or by another score than the mean.
        """
        return not self.is_own and not self.is_tie and self._ahead < 0

    @property
    def _ahead(self) -> float:
        """Difference of the means, above zero where that of the best is better."""
        assert self.best.value is not None, "it has a score"
        assert self.own.value is not None, "it has a score"
        return (self.best.value - self.own.value) * (1 if self.mode == "max" else -1)


@dataclass(frozen=True)
class NoImprovement:
    """The absence of a figure of the run's own values, so that the best configuration is compared with nothing."""

    reason: str
    """Why they have none, as a part of a sentence about them."""


def improvement(
    rows: Sequence[Ranked], runs: pa.Table, epochs: pa.Table, objective: str, mode: str, sweep_spec: str
) -> Improvement | NoImprovement | None:
    """Return the best configuration against the run's own values; None if there is no best one.

    Args:
        rows: The ranking.
        runs: The table of runs.
        epochs: The table of epochs of these runs.
        objective: Key of the figure, `split/metric/member`.
        mode: `max` or `min`.
        sweep_spec: Stored spec of the sweep, as JSON.
    """
    best, values = best_of(rows), own_values(sweep_spec)
    if best is None:
        return None
    owns = sorted((row for row in rows if is_own_point(row, values)), key=lambda row: row.score is None)
    if not owns or owns[0].score is None:
        return NoImprovement(f"it has no figure: {owns[0].reason}" if owns else "it is no configuration of this sweep")
    own = owns[0]
    curves = queries.points(queries.of_runs(epochs, [*best.run_ids, *own.run_ids]), Objective.parse(objective))
    seeds = dict(zip(runs["run_id"].to_pylist(), runs["seed"].to_pylist(), strict=True))
    ours, theirs = ({seeds[run_id]: curves[run_id][-1].value for run_id in row.run_ids} for row in (best, own))
    shared = sorted(ours.keys() & theirs.keys())
    return Improvement(best=best, own=own, differences=tuple(ours[seed] - theirs[seed] for seed in shared), mode=mode)


def own_values(sweep_spec: str) -> dict[str, Any]:
    """Return the values that a sweep's run has by itself, by full path; the spec of a suite has none."""
    run = json.loads(sweep_spec).get("run")
    return flat(run) if isinstance(run, dict) else {}


def is_own_point(row: Ranked, own: Mapping[str, Any]) -> bool:
    """Return whether a configuration is that of the run's own values: it differs from the run in searched fields only.

    Args:
        row: A configuration of a search.
        own: The run's own values, from `own_values`. A term of a plugin that the run does not name has no weight.
    """
    if row.trial_id == BASELINE or not own:
        return False
    return all(_plain(value) == _plain(own.get(path, _absent(path))) for path, value in row.searched.items())


def _absent(path: str) -> float | None:
    return 0.0 if path.startswith("losses.extra.") else None


def _plain(value: object) -> object:
    """Return a list of one entry as that entry: they are two spellings of a value."""
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
