"""The callback that bounds a sweep's disk: the best configurations keep their checkpoints, others lose them.

Metrics and records always stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from mcl_ray.callbacks import SweepCallback, TrialEnd, TrialInfo
from mcl_ray.results.remote.pull import remove
from searches.spec.space import Point
from searches.sweep_recorder import log_store_errors
from searches.trial_history import KnownTrial
from trainables.trial_job import TRIAL, TrialJob


class CheckpointRetention(SweepCallback):
    """Deletes checkpoints as trials end; with `limit` None it deletes nothing, and never those of the run's own values.

    The run's own values are confirmed whatever their score.
    """

    must_succeed: ClassVar[bool] = True

    def __init__(
        self, job: TrialJob, limit: int | None, ended: Sequence[KnownTrial], own_point: Point | None = None
    ) -> None:
        self._job, self._limit, self._own_point = job, limit, own_point
        ranked = [trial for trial in ended if trial.point != own_point]
        self._kept = sorted(
            (_rank(trial.score, trial.state == "finished", trial.n < job.repeats), trial.trial_id) for trial in ranked
        )
        """Rank and id of each trial that keeps its checkpoints, best first; without a limit, of none."""
        self._trim()

    def on_trial_end(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Delete the checkpoints that are no longer among the best."""
        if end.state == "unrecorded" or trial.point == self._own_point:
            return
        result = None if end.state == "failed" else end.result
        score, has_failed = (None, True) if result is None else (result.score, result.n < self._job.repeats)
        others = [one for one in self._kept if one[1] != trial.trial_id]  # without an earlier end of a retried trial
        self._kept = sorted([*others, (_rank(score, end.state == "finished", has_failed), trial.trial_id)])
        with log_store_errors(f"checkpoints are deleted after trial {trial.trial_id}"):
            self._trim()

    def _trim(self) -> None:
        """Delete the checkpoints of the trials after the best ones, once."""
        superfluous = [] if self._limit is None else [trial_id for _, trial_id in self._kept[self._limit :]]
        remove(
            self._job.folder_of({TRIAL: trial_id}, repeat) / "checkpoints"
            for trial_id in superfluous
            for repeat in range(self._job.repeats)
        )
        self._kept = self._kept[: self._limit or 0]


def _rank(score: float | None, finished: bool, has_failed: bool) -> tuple[bool, bool, bool, float]:
    """Return a key in the ranking's order, best first.

    Trials that trained to the end come before those stopped early, and in each of these, those without a failed seed.
    """
    return score is None, not finished, has_failed, 0.0 if score is None else -score
