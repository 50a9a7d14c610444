"""The trials of a sweep as figures draw them: in the order of their numbers, each with its curve.

The PNG figures of them are in `trial_plots.py`, those of the page in `interactive_trials.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcl_ray.analysis.ranking import Ranked
from mcl_ray.analysis.sweep_ranking import SweepRanking
from mcl_ray.reports.axes import scored
from mcl_ray.reports.sample import drawn
from mcl_ray.results import queries
from mcl_ray.results.queries import Spread

HISTORY_NOTE = (
    "Each trial's figure by its number, ± the standard deviation over seeds. Open triangles were stopped early, with "
    "the epoch of their figure beside them; the line is the best so far of those that trained to the end."
)
CURVES_NOTE = (
    "The objective of every trial, as the mean over its seeds; the best is the widest. Crosses end trials that were "
    "stopped early."
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial of a sweep, for figures."""

    number: int
    row: Ranked
    curve: Sequence[Spread]
    """Objective by epoch: mean and standard deviation over the seeds."""

    @property
    def has_finished(self) -> bool:
        """Return whether it trained to the end."""
        return self.row.state == "finished"


def trials_of(ranked: SweepRanking) -> list[Trial]:
    """Return the trials that have a score, by their number; the baseline is none of them.

    Of very many, figures draw a sample, in which every trial that was the best so far, and the last, is.
    """
    rows = scored(ranked.rows)
    places = {trial_id: place for place, trial_id in enumerate(sorted(row.trial_id or "" for row in rows))}
    numbers = {id(row): _number(row.trial_id or "", places) for row in rows}
    in_order = sorted(rows, key=lambda row: numbers[id(row)])
    chosen = {id(row) for row in drawn(rows, [*_best_so_far(in_order, ranked.mode), *in_order[-1:]])}
    curves = queries.points(ranked.epochs, ranked.goal)
    return [
        Trial(
            number=numbers[id(row)],
            row=row,
            curve=queries.spread(curves[run_id] for run_id in row.run_ids),
        )
        for row in in_order
        if id(row) in chosen
    ]


def _number(trial_id: str, places: Mapping[str, int]) -> int:
    return int(trial_id) if trial_id.isdecimal() else places[trial_id]


def best_so_far(trials: Sequence[Trial], mode: str) -> list[tuple[int, float]]:
    """Return number and score of each trial that trained to the end and was the best until then."""
    numbers = {id(trial.row): trial.number for trial in trials}
    return [(numbers[id(row)], row.score or 0.0) for row in _best_so_far([trial.row for trial in trials], mode)]


def _best_so_far(rows: Sequence[Ranked], mode: str) -> list[Ranked]:
    best: list[Ranked] = []
    sign = 1.0 if mode == "max" else -1.0
    for row in rows:
        if row.state == "finished" and (not best or sign * (row.score or 0.0) > sign * (best[-1].score or 0.0)):
            best.append(row)
    return best


def later_values(trials: Sequence[Trial]) -> list[float]:
    """Return the values of the curves after the first fifth of the epochs, in which trials hardly differ, and all ends.

    A figure of all curves shows these: from the first epoch on, the steep beginning would take most of its height.
    """
    first = max(point.epoch for trial in trials for point in trial.curve) / 5
    return [
        point.mean
        for trial in trials
        for place, point in enumerate(trial.curve, start=1)
        if math.isfinite(point.mean) and (point.epoch > first or place == len(trial.curve))
    ]


def rungs_text(rungs: Sequence[int]) -> str:
    """Return at which epochs trials were compared; empty without any."""
    epochs = f"epoch{'s' if len(rungs) > 1 else ''} {', '.join(map(str, rungs))}"
    return f"Dotted lines are the rungs at which trials may be stopped: {epochs}." if rungs else ""
