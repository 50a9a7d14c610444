"""The sweep's trials in an Optuna study in a database, as they happen, for dashboards and notebooks.

It is written, never read back: what a sweep resumes from is its records. A database that fails does not end a sweep,
and one that is slow does not keep trials waiting: a thread writes.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import optuna
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from ray.tune.experiment import Trial
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from mcl_ray.errors import StoreError
from searches.spec.experiment import Experiment
from searches.trial_history import KnownTrial, read_trials
from searches.tune.converters import to_distributions, to_params
from searches.tune.optuna_searcher import known_trial
from searches.tune.trial_recorder import failure
from trainables.trial_job import EPOCH, SCORE, TRIAL, point_of

FILE = "study.db"
SQLITE_WAIT_S = 30
_STATES = {"finished": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}
_log = logging.getLogger(__name__)


class OptunaExporter:
    """Listens to the sweep's trials: early-stopped ones are PRUNED in the database, failed ones FAIL."""

    def __init__(self, sweep: Experiment, folder: Path, known: Sequence[KnownTrial]) -> None:
        """Opens the study, named as the sweep's folder, and brings it up to date.

        Raises:
            StoreError: the database does not answer.
        """
        self._sweep, self._folder, self._missed = sweep, folder, False
        self._storage = open_storage(sweep.study or f"sqlite:///{folder.absolute() / FILE}")
        directions = [StudyDirection[direction.upper()] for direction in sweep.directions]
        optuna.create_study(study_name=folder.name, storage=self._storage, directions=directions, load_if_exists=True)
        self._study_id = self._storage.get_study_id_from_name(folder.name)
        self._running: dict[str, int] = {}
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mirror")
        self._told: deque[Future[None]] = deque()
        with self._forgiving():
            self._bring_up_to_date(known)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What the database missed while the sweep ran is told once more."""
        self.wait()
        self._writer.shutdown()
        if self._missed:
            with self._forgiving():
                self._bring_up_to_date(read_trials(self._folder, self._sweep))

    def __call__(self, event: str, trial: Trial, result: Mapping[str, Any]) -> None:
        """Have it written down what happened to a trial."""
        self._told.append(self._writer.submit(self._write, event, dict(trial.config), dict(result), failure(result)))
        while self._told and self._told[0].done():
            self._told.popleft().result()

    def wait(self) -> None:
        """Return once all that was told is written down."""
        while self._told:
            self._told.popleft().result()

    def _write(self, event: str, config: dict[str, Any], result: Mapping[str, Any], failed: str | None) -> None:
        with self._forgiving():
            self._write_down(event, config, result, failed)

    def _write_down(self, event: str, config: dict[str, Any], result: Mapping[str, Any], failed: str | None) -> None:
        if config[TRIAL] not in self._running:
            self._running[config[TRIAL]] = self._begin(config)
        number = self._running[config[TRIAL]]
        values = [float(result[name]) for name in (SCORE, *self._sweep.costs) if name in result]
        if event == "reported" and values and not self._sweep.costs:
            self._storage.set_trial_intermediate_value(number, result[EPOCH], values[0])
        elif event in ("completed", "failed"):
            del self._running[config[TRIAL]]
            if event == "failed" or failed or not values:
                self._storage.set_trial_user_attr(number, "error", failed or "its process died")
                self._storage.set_trial_state_values(number, TrialState.FAIL)
            else:
                early = result[EPOCH] < self._sweep.run.schedule.epochs
                self._storage.set_trial_state_values(number, _STATES["stopped" if early else "finished"], values)

    def _begin(self, config: dict[str, Any]) -> int:
        point = point_of(config)
        running = create_trial(
            state=TrialState.RUNNING,
            params=to_params(self._sweep.space, point),
            distributions=to_distributions(self._sweep.space, point),
            user_attrs={TRIAL: config[TRIAL]},
        )
        return self._storage.create_new_trial(self._study_id, template_trial=running)

    def _bring_up_to_date(self, known: Sequence[KnownTrial]) -> None:
        """Trials that go on stay RUNNING; others that run there and are not on record were never begun: they FAIL."""
        by_id, told = {trial.trial_id: trial for trial in known}, set[str]()
        for kept in self._storage.get_all_trials(self._study_id, deepcopy=False):
            name = str(kept.user_attrs.get(TRIAL))
            trial = by_id.get(name)
            if not kept.state.is_finished():
                self._settle(kept._trial_id, trial)
                told.add(name)
            elif trial is not None and kept.state == _STATES.get(trial.state):
                told.add(name)
        for trial in known:
            if trial.state != "unfinished" and trial.trial_id not in told:
                ended = known_trial(self._sweep, trial, states=_STATES)
                self._storage.create_new_trial(self._study_id, template_trial=ended)

    def _settle(self, number: int, trial: KnownTrial | None) -> None:
        """What becomes of a trial that the database believes is running."""
        if trial is not None and trial.state == "unfinished":
            self._running[trial.trial_id] = number
            return
        ended = None if trial is None else known_trial(self._sweep, trial, states=_STATES)
        if ended is None or ended.state == TrialState.FAIL:
            self._storage.set_trial_state_values(number, TrialState.FAIL)
        else:
            self._storage.set_trial_state_values(number, ended.state, ended.values)

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except (OptunaError, SQLAlchemyError) as error:
            if not self._missed:
                _log.warning(
                    "the study's database missed a trial; the sweep goes on, and tells it at its end: %s", error
                )
            self._missed = True


def open_storage(url: str) -> BaseStorage:
    """The database behind a URL, its tables made where they are missing.

    Raises:
        StoreError: it does not answer, or its driver is not installed.
    """
    waiting = {"connect_args": {"timeout": SQLITE_WAIT_S}} if url.startswith("sqlite") else {}
    try:
        # Trials end minutes or hours apart: no connection is kept open, to be found dead then.
        return RDBStorage(url, engine_kwargs={"poolclass": NullPool} | waiting)
    except (ImportError, OptunaError, SQLAlchemyError) as error:
        reason = str(error).splitlines()[0]
        raise StoreError(f"the study's database must answer, but {_shown(url)} does not: {reason}") from error


def _shown(url: str) -> str:
    """Without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return url.partition("://")[0] + "://…"
