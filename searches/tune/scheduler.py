"""Tune's asynchronous successive halving, for sweeps that go on: it knows the epochs that are on record.

Rungs hold every trial's score at the epochs where halving looks; which trials those are, Tune itself does not keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.tune.schedulers import AsyncHyperBandScheduler

from searches.trial_history import KnownTrial
from trainables.trial_job import EPOCH, SCORE, TRIAL


@dataclass(frozen=True)
class _Past:
    """A trial that ended, as far as a scheduler looks at one."""

    trial_id: str
    config: dict[str, Any]


class ResumableHalving(AsyncHyperBandScheduler):
    """A trial's bracket follows from its id alone, so that it is the same whenever the sweep goes on."""

    def recall(self, known: Sequence[KnownTrial]) -> None:
        """Fill the rungs with what is on record.

        An unfinished trial tells the epoch that it goes on from once more: that one is left for it to be judged by.
        """
        self._curves = {trial.trial_id: trial.curve[:-1] for trial in known if trial.state == "unfinished"}
        for trial in known:
            if trial.state != "unfinished":
                past = _Past(trial.trial_id, {TRIAL: trial.trial_id})
                self.on_trial_add(None, past)
                self._tell(past, trial.curve)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Give a trial its bracket, and what its rungs should have of it."""
        super().on_trial_add(tune_controller, trial)
        name = trial.config[TRIAL]
        sizes = np.array([len(bracket._rungs) for bracket in self._brackets])
        shares = np.exp(sizes - sizes.max())
        chosen = np.random.default_rng(int(name)).choice(len(sizes), p=shares / shares.sum())
        self._trial_info[trial.trial_id] = self._brackets[chosen]
        self._tell(trial, self._curves.get(name, ()))

    def _tell(self, trial: Any, curve: Sequence[tuple[int, float]]) -> None:
        """What comes of it was decided long ago."""
        for epoch, score in curve:
            self.on_trial_result(None, trial, {EPOCH: epoch, SCORE: score})  # type: ignore[arg-type]
