"""Optuna as Tune's searcher: a study in memory with every recorded trial, which proposes unfinished trials first.

The study is rebuilt from the records whenever a sweep starts or is resumed, so that no trial that ended is ever lost.
The export of the same trials to a database is `searches.tune.optuna_exporter`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState
from ray.tune.search.optuna import OptunaSearch

from mcl_ray.callbacks import SweepCallback, TrialEnd, TrialInfo
from searches.spec.experiment import Experiment
from searches.spec.space import Space, Value
from searches.sweep_recorder import log_store_errors
from searches.trial_history import KnownTrial
from searches.tune.converters import suggest, to_frozen_trial, to_params, to_sampler
from searches.tune.sampler_memory import SamplerMemory
from trainables.trial_job import FAILED, SCORE, TRIAL, UNWRITTEN

STUDY = "sweep"
KEPT_ATTRS = "qmc:"
"""Prefix of the study's attributes that are kept; others (populations) refer to numbers that change with a rebuild."""
_STATES = {"finished": TrialState.COMPLETE, "stopped": TrialState.COMPLETE, "failed": TrialState.FAIL}


class TuneOptunaSearch(OptunaSearch):
    """Tune's searcher, for trials that report that they failed: their process continues with the next trial."""

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the next configuration; a sampler's first may take seconds, as it imports modules."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Define-by-run function", category=UserWarning)
            found: dict[str, Any] | None = super().suggest(trial_id)
        return found

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Receive the score of an epoch; Tune counts the reports of a process that was started again from 1."""
        if SCORE in result:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="The reported value is ignored", category=UserWarning)
                super().on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Receive the last score, or that there is none."""
        failed = error or result is None or FAILED in result or UNWRITTEN in result
        super().on_trial_complete(trial_id, None if failed else result, error=failed)


class OptunaSearcher(SweepCallback):
    """Builds the study that Tune asks: trials that ended, unfinished ones, start points, then the sampler's proposals.

    As a callback it stores what samplers keep beside trials (generations, positions in a sequence) for a resumed sweep.
    """

    must_succeed: ClassVar[bool] = True

    def __init__(
        self, sweep: Experiment, folder: Path, known: Sequence[KnownTrial], warm: Sequence[KnownTrial]
    ) -> None:
        """Build the study; `warm` are trials of earlier sweeps that ended with a score and lie in the space."""
        self._sweep, self._memory = sweep, SamplerMemory(folder)
        self._storage = InMemoryStorage()
        self._sampler = to_sampler(sweep, proposed=len(known))
        self._study = optuna.create_study(
            storage=self._storage, study_name=STUDY, directions=sweep.directions, sampler=self._sampler
        )
        self._study_id = self._storage.get_study_id_from_name(STUDY)
        self._recall(known, warm)
        self._enqueue_unfinished(known)
        # Trials that the study numbers from now on are new: their ids continue those of the recorded trials.
        highest = max((int(trial.trial_id) for trial in known), default=-1)
        self._seen = len(self._study.get_trials(deepcopy=False))
        self._first_number = highest + 1 - self._seen
        self._running: set[int] = set()
        tried = {frozenset(trial.point.items()) for trial in known}
        self._enqueue_points([point for point in sweep.first_points if frozenset(point.items()) not in tried])

    def searcher(self) -> OptunaSearch:
        """Return the searcher that Tune asks."""
        costs = self._sweep.scoring.costs
        metrics = [SCORE, *costs]
        modes = [direction[:3] for direction in self._sweep.directions]
        return TuneOptunaSearch(
            space=partial(_propose, space=self._sweep.space, first_number=self._first_number),
            metric=metrics if costs else SCORE,
            mode=modes if costs else "max",
            sampler=self._sampler,
            study_name=STUDY,
            storage=self._storage,
        )

    def on_trial_start(self, trial: TrialInfo) -> None:
        """Store what the sampler keeps."""
        self._save_memory(trial)

    def on_trial_end(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Store what the sampler keeps."""
        self._save_memory(trial)

    def _save_memory(self, trial: TrialInfo) -> None:
        """Write the attributes that samplers have set on the study and on its trials since the last call."""
        of_trials = {_trial_id(found, self._first_number): found.system_attrs for found in self._changed(trial)}
        attrs = self._storage.get_study_system_attrs(self._study_id)
        of_study = {name: attrs[name] for name in attrs if name.startswith(KEPT_ATTRS)}
        with log_store_errors("the sampler's state has changed"):
            self._memory.save(of_study, of_trials)

    def _changed(self, trial: TrialInfo) -> list[FrozenTrial]:
        """Return the trials that may have changed: this one, those that were running, and those that are new."""
        numbers = self._running | {self._number_of(trial)}
        while self._find(self._seen) is not None:
            numbers.add(self._seen)
            self._seen += 1
        found = [one for number in sorted(numbers) if (one := self._find(number)) is not None]
        self._running = {one.number for one in found if one.state == TrialState.RUNNING}
        return found

    def _number_of(self, trial: TrialInfo) -> int:
        """Return the study's number of a trial, which `_trial_id` is computed from."""
        unfinished = self._unfinished.get(trial.trial_id)
        return int(trial.trial_id) - self._first_number if unfinished is None else unfinished

    def _find(self, number: int) -> FrozenTrial | None:
        try:
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        except KeyError:
            return None
        return self._storage.get_trial(trial_id)

    def _recall(self, known: Sequence[KnownTrial], warm: Sequence[KnownTrial]) -> None:
        """Add the trials that ended, with what samplers kept beside them."""
        for name, value in self._memory.of_study.items():
            self._storage.set_study_system_attr(self._study_id, name, value)
        self._study.add_trials(to_frozen_trial(self._sweep, trial, _STATES) for trial in warm)
        for trial in known:
            if trial.state != "unfinished":
                attrs = self._memory.of_trials.get(trial.trial_id)
                self._study.add_trial(to_frozen_trial(self._sweep, trial, _STATES, attrs))

    def _enqueue_unfinished(self, known: Sequence[KnownTrial]) -> None:
        number = len(self._study.get_trials(deepcopy=False))
        unfinished = [trial for trial in known if trial.state == "unfinished"]
        self._unfinished = {trial.trial_id: place for place, trial in enumerate(unfinished, start=number)}
        for trial in unfinished:
            params = to_params(self._sweep.space, trial.point)
            self._study.enqueue_trial(params, user_attrs={TRIAL: trial.trial_id})

    def _enqueue_points(self, points: Sequence[Mapping[str, Value]]) -> None:
        for point in points:
            self._study.enqueue_trial(to_params(self._sweep.space, point))


def _propose(trial: optuna.Trial, space: Space, first_number: int) -> dict[str, Value]:
    """Return a configuration and the id of its trial, new or unfinished."""
    return suggest(space, trial) | {TRIAL: _trial_id(trial, first_number)}


def _trial_id(trial: optuna.Trial | FrozenTrial, first_number: int) -> str:
    return str(trial.user_attrs.get(TRIAL, f"{trial.number + first_number:04d}"))
