"""The trials of a sweep as its records describe them: everything that resuming reads.

A trial is one configuration; its runs differ in the seed. Records are written by `trainables.tune_function` and
`searches.tune.trial_recorder`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal

from mcl_ray.analysis.costs import mean_costs
from mcl_ray.analysis.roles import COMPARED, is_further
from mcl_ray.callbacks import TrialEnd, TrialInfo, TrialResult
from mcl_ray.config.scoring import has_enough_seeds
from mcl_ray.results.queries import Objective, Point, for_ranking, points, training_times
from mcl_ray.results.store import ENDED, read_epochs, read_runs
from searches.spec.experiment import Experiment
from searches.spec.space import Value, active_part

TrialState = Literal["finished", "stopped", "failed", "unfinished"]
COLUMNS = ["run_id", "trial_id", "searched", "state", "parameters", "multiply_adds"]
"""Columns of runs that trials are read from; a sweep may have very many."""


@dataclass(frozen=True, kw_only=True)
class KnownTrial:
    """A configuration of which a run was started."""

    trial_id: str
    """Four digits, counted from 0000 within its sweep."""
    point: Mapping[str, Value]
    """Searched field → value."""
    state: TrialState
    """`failed` once too many seeds failed; `unfinished` until every seed has ended."""
    curve: tuple[tuple[int, float], ...]
    """(epoch, score) of every epoch that is recorded for all seeds that have not failed."""
    costs: Mapping[str, float]
    """Cost → mean over the seeds that have not failed, for every known cost, searched for or not."""
    run_ids: tuple[str, ...]
    failed_run_ids: tuple[str, ...] = ()
    """Runs of seeds that failed; the configuration need not have failed for that."""
    mean: float | None = None
    """Mean of the objective over the seeds that have not failed, at the curve's last epoch; None without one."""
    std: float = 0.0
    """Standard deviation of the objective over these seeds, at the curve's last epoch."""
    n: int = 1
    """Number of seeds that have not failed."""
    is_finite: bool = True
    """False if the objective is not a finite number at the last epoch, whatever it was before."""

    @property
    def score(self) -> float | None:
        """Score at the last epoch; None without one, or for a failed configuration."""
        return self.curve[-1][1] if self.curve and self.is_finite and self.state != "failed" else None

    @property
    def info(self) -> TrialInfo:
        """The trial as callbacks receive it."""
        return TrialInfo(trial_id=self.trial_id, point=self.point)

    @property
    def end(self) -> TrialEnd:
        """The end of a trial that ended, as callbacks receive it."""
        assert self.state != "unfinished", "it has not ended"
        return TrialEnd(state=self.state, result=self._result())

    def _result(self) -> TrialResult | None:
        if self.score is None:
            return None
        mean = self.score if self.mean is None else self.mean
        epoch = self.curve[-1][0]
        return TrialResult(epoch=epoch, score=self.score, mean=mean, std=self.std, n=self.n, costs=self.costs)


def read_trials(folder: Path, sweep: Experiment) -> list[KnownTrial]:
    """Return every trial of the sweep in `folder`, sorted by id; without further seeds and those for comparison."""
    goal = Objective.parse(sweep.objective)
    epochs = read_epochs(folder, lambda rows: for_ranking(rows, goal))
    curves, times = points(epochs, goal), training_times(epochs)
    trials: dict[str, list[dict[str, Any]]] = {}
    for row in read_runs(folder).select(COLUMNS).to_pylist():
        if row["trial_id"] not in COMPARED and not is_further(row, sweep.repeats):
            trials.setdefault(row["trial_id"], []).append(row)
    return [_known(trial_id, trials[trial_id], curves, times, sweep) for trial_id in sorted(trials)]


def _known(
    trial_id: str,
    rows: Sequence[Mapping[str, Any]],
    curves: Mapping[str, list[Point]],
    times: Mapping[str, float],
    sweep: Experiment,
) -> KnownTrial:
    active = _counted([row for row in rows if row["state"] != "failed"], curves, sweep.repeats)
    of_seeds = [curves.get(row["run_id"], []) for row in active]
    scores = _scores(of_seeds, sweep)
    curve = tuple((epoch, value) for epoch, value in scores if math.isfinite(value))
    last = [point.value for points in of_seeds for point in points if curve and point.epoch == curve[-1][0]]
    return KnownTrial(
        trial_id=trial_id,
        point=_point(json.loads(rows[0]["searched"]), sweep),
        state=_state(rows, sweep.repeats),
        curve=curve,
        costs=mean_costs(active, times),
        run_ids=tuple(row["run_id"] for row in rows),
        failed_run_ids=tuple(row["run_id"] for row in rows if row["state"] == "failed"),
        mean=fmean(last) if last else None,
        std=stdev(last) if len(last) > 1 else 0.0,
        n=len(last),
        is_finite=not scores or math.isfinite(scores[-1][1]),
    )


def _point(searched: Mapping[str, Any], sweep: Experiment) -> dict[str, Value]:
    """Return the point in the space's own spelling, as JSON has no tuples.

    Fields that are inactive at it are left out, which earlier versions sampled all the same.
    """
    matched = {
        path: sweep.space[path].match(value) if path in sweep.space else None for path, value in searched.items()
    }
    point = {path: searched[path] if value is None else value for path, value in matched.items()}
    return active_part(sweep.space, point)


def _counted(rows: list[Mapping[str, Any]], curves: Mapping[str, list[Point]], repeats: int) -> list[Mapping[str, Any]]:
    """Return the runs whose figures count: as in the ranking, without those that ended with one that is not finite.

    All of them count if too few are left, so that the configuration has no score.
    """
    finite = [row for row in rows if not (own := curves.get(row["run_id"])) or math.isfinite(own[-1].value)]
    return finite if has_enough_seeds(len(finite), repeats) else rows


def _state(rows: Sequence[Mapping[str, Any]], repeats: int) -> TrialState:
    states = [row["state"] for row in rows]
    if not has_enough_seeds(repeats - states.count("failed"), repeats):
        return "failed"
    if len(states) < repeats or not all(state in ENDED for state in states):
        return "unfinished"
    return "stopped" if "stopped" in states else "finished"


def _scores(curves: Sequence[Sequence[Point]], sweep: Experiment) -> tuple[tuple[int, float], ...]:
    by_epoch = [{point.epoch: point.value for point in curve} for curve in curves]
    shared = set.intersection(*map(set, by_epoch)) if by_epoch else set()
    score = sweep.scoring.score
    return tuple((epoch, score.of([values[epoch] for values in by_epoch])) for epoch in sorted(shared))
