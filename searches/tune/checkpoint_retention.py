"""The bound on a sweep's disk: checkpoints of the best configurations stay, the others' go as their trials end.

Figures and records always stay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ray.tune.experiment import Trial

from mcl_ray.results.remote.pull import remove
from searches.trial_history import KnownTrial
from searches.tune.trial_recorder import failure
from trainables.trial_job import EPOCH, SCORE, TRIAL, TrialJob


class CheckpointRetention:
    """Listens to the sweep's trials; `kept` None keeps everything."""

    def __init__(self, job: TrialJob, kept: int | None, epochs: int, ended: Sequence[KnownTrial]) -> None:
        self._job, self._kept, self._epochs = job, kept, epochs
        self._places = {trial.trial_id: _place(trial.score, trial.state == "finished") for trial in ended}
        self._gone: set[str] = set()
        self._trim()

    def __call__(self, event: str, trial: Trial, result: Mapping[str, Any]) -> None:
        """Delete what the end of a trial makes superfluous."""
        if event not in ("completed", "failed"):
            return
        score = None if event == "failed" or failure(result) else result.get(SCORE)
        self._places[trial.config[TRIAL]] = _place(score, result.get(EPOCH) == self._epochs)
        self._trim()

    def _trim(self) -> None:
        if self._kept is None:
            return
        best_first = sorted(self._places, key=lambda trial_id: (self._places[trial_id], trial_id))
        superfluous = [trial_id for trial_id in best_first[self._kept :] if trial_id not in self._gone]
        remove(
            self._job.folder_of({TRIAL: trial_id}, repeat) / "checkpoints"
            for trial_id in superfluous
            for repeat in range(self._job.repeats)
        )
        self._gone.update(superfluous)


def _place(score: float | None, finished: bool) -> tuple[float, bool]:
    """Smallest first, in the ranking's order: by score, a finished trial before one that was stopped early."""
    return (math.inf if score is None else -score, not finished)
