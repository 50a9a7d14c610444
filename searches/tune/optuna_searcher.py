"""Optuna behind Tune: a study in memory that knows every trial on record, and asks for what is left first.

The study is rebuilt from the records whenever a sweep starts or goes on, so that nothing that ended is ever lost. The
same trials in a database, for people to look at, are `searches.tune.optuna_exporter`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from ray.tune.experiment import Trial
from ray.tune.search.optuna import OptunaSearch

from mcl_ray.results.atomic_io import write_atomically
from mcl_ray.results.remote.pull import try_to_push
from searches.spec.experiment import Experiment
from searches.spec.space import Space, Value, contains
from searches.trial_history import KnownTrial
from searches.tune.converters import suggest, to_distributions, to_params, to_sampler
from trainables.trial_job import FAILED, SCORE, TRIAL, UNWRITTEN

STUDY = "sweep"
MEMORY_FILE = "sampler.json"
KEPT_NOTES = "qmc:"
"""Of the study's own notes; others (populations) speak of trials by numbers that a rebuilt study gives anew."""
_STATES = {"finished": TrialState.COMPLETE, "stopped": TrialState.COMPLETE, "failed": TrialState.FAIL}


class TuneOptunaSearch(OptunaSearch):
    """Tune's searcher, for trials that say themselves that they failed: their process lives on for the next trial."""

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next configuration; a sampler's first may take seconds, for what it has to import."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Define-by-run function", category=UserWarning)
            found: dict[str, Any] | None = super().suggest(trial_id)
        return found

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Takes an epoch's score."""
        if SCORE in result:
            super().on_trial_result(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Takes the last score, or that there is none."""
        failed = error or result is None or FAILED in result or UNWRITTEN in result
        super().on_trial_complete(trial_id, None if failed else result, error=failed)


class OptunaSearcher:
    """The sampler's view of a sweep: trials that ended, trials to go on with, points to begin with, then its own."""

    def __init__(
        self, sweep: Experiment, folder: Path, known: Sequence[KnownTrial], warm: Sequence[KnownTrial]
    ) -> None:
        """`warm` are trials of earlier sweeps; those outside this sweep's space are left out."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._sweep, self._path = sweep, folder / MEMORY_FILE
        self._storage = InMemoryStorage()
        self._sampler = to_sampler(sweep, proposed=len(known))
        self._study = optuna.create_study(
            storage=self._storage, study_name=STUDY, directions=sweep.directions, sampler=self._sampler
        )
        self._study_id = self._storage.get_study_id_from_name(STUDY)
        self._recall(known, [trial for trial in warm if contains(sweep.space, trial.point)])
        self._go_on_with(known)
        # Trials that the study numbers from here on are new: their ids go on where those on record end.
        highest = max((int(trial.trial_id) for trial in known), default=-1)
        self._first_number = highest + 1 - len(self._study.get_trials(deepcopy=False))
        self._begin_with([point for point in sweep.first_points if point not in [trial.point for trial in known]])

    def searcher(self) -> OptunaSearch:
        """The study as Tune asks it."""
        metrics = [SCORE, *self._sweep.costs]
        modes = [direction[:3] for direction in self._sweep.directions]
        return TuneOptunaSearch(
            space=partial(_propose, space=self._sweep.space, first_number=self._first_number),
            metric=metrics if self._sweep.costs else SCORE,
            mode=modes if self._sweep.costs else "max",
            sampler=self._sampler,
            study_name=STUDY,
            storage=self._storage,
        )

    def __call__(self, event: str, trial: Trial, result: Mapping[str, Any]) -> None:
        """Keep, for the next start, what samplers note beside trials: generations, positions in a sequence."""
        if event == "reported":
            return
        beside = {
            _trial_id(kept, self._first_number): kept.system_attrs
            for kept in self._study.get_trials(deepcopy=False)
            if kept.system_attrs
        }
        notes = self._storage.get_study_system_attrs(self._study_id)
        content = {"study": {name: notes[name] for name in notes if name.startswith(KEPT_NOTES)}, "trials": beside}
        write_atomically(self._path, json.dumps(content).encode())
        try_to_push([self._path])

    def _recall(self, known: Sequence[KnownTrial], warm: Sequence[KnownTrial]) -> None:
        notes = json.loads(self._path.read_bytes()) if self._path.exists() else {"study": {}, "trials": {}}
        for name, value in notes["study"].items():
            self._storage.set_study_system_attr(self._study_id, name, value)
        ended = [trial for trial in warm if trial.state in ("finished", "stopped") and trial.score is not None]
        self._study.add_trials(known_trial(self._sweep, trial) for trial in ended)
        for trial in known:
            if trial.state != "unfinished":
                self._study.add_trial(known_trial(self._sweep, trial, notes["trials"].get(trial.trial_id)))

    def _go_on_with(self, known: Sequence[KnownTrial]) -> None:
        for trial in known:
            if trial.state == "unfinished":
                params = to_params(self._sweep.space, trial.point)
                self._study.enqueue_trial(params, user_attrs={TRIAL: trial.trial_id})

    def _begin_with(self, points: Sequence[Mapping[str, Value]]) -> None:
        for point in points:
            self._study.enqueue_trial(to_params(self._sweep.space, point))


def known_trial(
    sweep: Experiment,
    trial: KnownTrial,
    notes: Mapping[str, Any] | None = None,
    states: Mapping[str, TrialState] | None = None,
) -> FrozenTrial:
    """A trial that ended, as Optuna keeps it; one without every value it should have counts as failed."""
    figures = [trial.score, *(trial.costs.get(cost) for cost in sweep.costs)]
    values = [figure for figure in figures if figure is not None]
    state = (states or _STATES)[trial.state] if len(values) == len(figures) else TrialState.FAIL
    return create_trial(
        state=state,
        values=None if state == TrialState.FAIL else values,
        params=to_params(sweep.space, trial.point),
        distributions=to_distributions(sweep.space, trial.point),
        user_attrs={TRIAL: trial.trial_id},
        system_attrs=dict(notes or {}),
        intermediate_values={} if sweep.costs else dict(trial.curve),
    )


def _propose(trial: optuna.Trial, space: Space, first_number: int) -> dict[str, Value]:
    """A configuration and the id of its trial, new or begun before."""
    return suggest(space, trial) | {TRIAL: _trial_id(trial, first_number)}


def _trial_id(trial: optuna.Trial | FrozenTrial, first_number: int) -> str:
    return str(trial.user_attrs.get(TRIAL, f"{trial.number + first_number:04d}"))
