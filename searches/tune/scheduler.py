"""Tune's asynchronous successive halving, for sweeps that are resumed: its rungs are filled from the records.

Rungs hold every trial's score at the epochs where halving decides; Tune itself does not store them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from searches.spec.strategy import SchedulerSpec
from searches.trial_history import KnownTrial
from trainables.trial_job import EPOCH, SCORE, TRIAL


def to_scheduler(spec: SchedulerSpec, epochs: int, known: Sequence[KnownTrial] = ()) -> TrialScheduler:
    """Return Tune's scheduler, with the recorded trials in its rungs and our `epoch` as its time.

    `hyperband` is the asynchronous one: Tune's HyperBandScheduler pauses trials until the slowest of their bracket has
    caught up, restarts each from its beginning, and has no grace period.
    """
    if spec.kind == "none" or spec.grace_epochs >= epochs:
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    first_rungs = (spec.grace_epochs * spec.reduction_factor**bracket for bracket in range(spec.brackets))
    halving = ResumableHalving(
        time_attr=EPOCH,
        max_t=epochs,
        grace_period=spec.grace_epochs,
        reduction_factor=spec.reduction_factor,
        brackets=sum(first_rung < epochs for first_rung in first_rungs) if spec.kind == "hyperband" else 1,
        metric=SCORE,
        mode="max",
    )
    halving.recall(known)
    return halving


@dataclass(frozen=True)
class _EndedTrial:
    """Attributes of a trial that ended, as far as a scheduler reads them."""

    trial_id: str
    config: dict[str, Any]


class ResumableHalving(AsyncHyperBandScheduler):
    """Successive halving in which a trial's bracket follows from its id alone, so that a resumed sweep has the same."""

    def recall(self, known: Sequence[KnownTrial]) -> None:
        """Fill the rungs with the recorded scores.

        An unfinished trial reports the epoch that it resumes from once more, and is judged by that report.
        """
        self._curves = {trial.trial_id: trial.curve[:-1] for trial in known if trial.state == "unfinished"}
        for trial in known:
            if trial.state != "unfinished":
                ended = _EndedTrial(trial.trial_id, {TRIAL: trial.trial_id})
                self.on_trial_add(None, ended)
                self._replay(ended, trial.curve)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Give a trial its bracket, and the bracket's rungs the trial's recorded scores."""
        super().on_trial_add(tune_controller, trial)
        name = trial.config[TRIAL]
        sizes = np.array([len(bracket._rungs) for bracket in self._brackets])
        shares = np.exp(sizes - sizes.max())
        chosen = np.random.default_rng(int(name)).choice(len(sizes), p=shares / shares.sum())
        self._trial_info[trial.trial_id] = self._brackets[chosen]
        self._replay(trial, self._curves.get(name, ()))

    def _replay(self, trial: Any, curve: Sequence[tuple[int, float]]) -> None:
        """Report recorded scores, and ignore the decisions, which were made before."""
        for epoch, score in curve:
            self.on_trial_result(None, trial, {EPOCH: epoch, SCORE: score})  # type: ignore[arg-type]
