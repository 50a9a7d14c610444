"""The callback that exports a sweep's trials to an Optuna study in a database, for dashboards and notebooks.

The study is written, never read back: a sweep is resumed from its records. A database that fails does not end a sweep,
and a slow one does not delay trials: a thread writes.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import optuna
from optuna.exceptions import DuplicatedStudyError, OptunaError, StorageInternalError
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import URL, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from mcl_ray.callbacks import SweepCallback, TrialEnd, TrialInfo, TrialResult
from mcl_ray.errors import StoreError
from mcl_ray.results.atomic_io import set_aside, write_atomically
from mcl_ray.results.remote.pull import try_to_push
from searches.spec.experiment import Experiment
from searches.trial_history import KnownTrial, read_trials
from searches.tune.study_file import set_aside_if_damaged, set_aside_study
from searches.tune.study_update import STATES, running_trial, update_study

FILE = "study.db"
NAME_FILE = "study.json"
SQLITE_WAIT_S = 30
DATABASE_ERRORS = (OptunaError, SQLAlchemyError)
"""Errors of a database that does not answer, or cannot be written."""
DAMAGE_ERRORS = (LookupError, TypeError, ValueError)
"""Errors that Optuna raises for a value in a database that it has not written: SQLite keeps no checksums."""
_log = logging.getLogger(__name__)


class OptunaExporter(SweepCallback):
    """Exports trials as they happen: early-stopped ones are PRUNED in the database, failed ones FAIL."""

    must_succeed: ClassVar[bool] = True

    def __init__(self, sweep: Experiment, folder: Path, known: Sequence[KnownTrial]) -> None:
        """Open the study, named as the sweep's folder as far as no other sweep has that name, and bring it up to date.

        Raises:
            StoreError: the database cannot be opened.
        """
        self._sweep, self._folder = sweep, folder
        self._missed = self._disordered = False
        self._failed: set[str] = set()
        self._running: dict[str, int] = {}
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="optuna-export")
        self._pending: deque[Future[None]] = deque()
        try:
            self._open(known)
        except DAMAGE_ERRORS as error:
            if sweep.outputs.study is not None:
                raise _no_answer(sweep.outputs.study, error) from error
            set_aside_study(folder / FILE, " ".join(str(error).split()))
            self._open(known)

    def _open(self, known: Sequence[KnownTrial]) -> None:
        self._storage = _open_study(self._sweep, self._folder)
        directions = [StudyDirection[direction.upper()] for direction in self._sweep.directions]
        is_shared = self._sweep.outputs.study is not None
        try:
            name = _claim_study(self._storage, self._folder, directions, is_shared=is_shared, known=known)
        except DATABASE_ERRORS as error:  # it can be read alone, or another program changed its tables
            raise _no_answer(study_url(self._sweep, self._folder), error) from error
        self._study_id = self._storage.get_study_id_from_name(name)
        with self._log_errors(*DATABASE_ERRORS):
            self._update(known)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write everything that is pending, and what the database missed, has in another order, or has as failed alone.

        An error of the records, such as that of a folder that was removed, is left as it is.
        """
        self.wait()
        self._writer.shutdown()
        if not (self._missed or self._disordered or self._failed) or isinstance(error, StoreError):
            return
        known = read_trials(self._folder, self._sweep)
        ended = {trial.trial_id for trial in known if trial.state in ("finished", "stopped")}
        if self._missed or self._disordered or self._failed & ended:
            with self._log_errors(*DATABASE_ERRORS, *DAMAGE_ERRORS):
                self._update(known)

    def on_trial_start(self, trial: TrialInfo) -> None:
        """Export a running trial."""
        self._submit(self._start, trial)

    def on_trial_result(self, trial: TrialInfo, result: TrialResult) -> None:
        """Export a trial's score at an epoch; Optuna takes none of several objectives."""
        self._submit(self._report, trial, result)

    def on_trial_end(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Export the end of a trial; one that could not be recorded stays running."""
        if end.state != "unrecorded":
            self._submit(self._end, trial, end)

    def wait(self) -> None:
        """Return once everything that was submitted is written."""
        while self._pending:
            self._pending.popleft().result()

    def _submit(self, write: Callable[..., object], *details: object) -> None:
        def attempt() -> None:
            with self._log_errors(*DATABASE_ERRORS, *DAMAGE_ERRORS):
                write(*details)

        self._pending.append(self._writer.submit(attempt))
        while self._pending and self._pending[0].done():
            self._pending.popleft().result()

    def _start(self, trial: TrialInfo) -> int:
        """Return the number of a trial in the database, where it is created if it is not there."""
        if trial.trial_id not in self._running:
            template = running_trial(self._sweep, trial.trial_id, trial.point)
            number = self._storage.create_new_trial(self._study_id, template_trial=template)
            self._running[trial.trial_id] = number
            # Trials that start in another order than they were proposed in are put into theirs at the end.
            self._disordered |= self._storage.get_trial_number_from_id(number) != int(trial.trial_id)
        return self._running[trial.trial_id]

    def _report(self, trial: TrialInfo, result: TrialResult) -> None:
        number = self._start(trial)
        if not self._sweep.scoring.costs:
            self._storage.set_trial_intermediate_value(number, result.epoch, result.score)

    def _end(self, trial: TrialInfo, end: TrialEnd) -> None:
        number = self._start(trial)
        del self._running[trial.trial_id]
        if end.state == "failed" or end.result is None:
            self._storage.set_trial_user_attr(number, "error", end.error or "it reported no score")
            self._storage.set_trial_state_values(number, TrialState.FAIL)
            self._failed.add(trial.trial_id)  # a process may die after it has recorded that its trial has ended
        else:
            values = [end.result.score, *(end.result.costs[cost] for cost in self._sweep.scoring.costs)]
            self._storage.set_trial_state_values(number, STATES[end.state], values)

    def _update(self, known: Sequence[KnownTrial]) -> None:
        """Bring the database up to date with the records."""
        self._study_id, self._running = update_study(self._storage, self._study_id, self._sweep, known)

    @contextmanager
    def _log_errors(self, *errors: type[Exception]) -> Iterator[None]:
        """Log errors of the database, which is brought up to date later."""
        try:
            yield
        except errors as error:
            if not self._missed:
                _log.warning(
                    "the study's database missed a trial; the sweep continues, and exports it at its end: %s", error
                )
            self._missed = True


def _open_study(sweep: Experiment, folder: Path) -> BaseStorage:
    """Return the database of a sweep's study; one of its own that is damaged is set aside, and made again."""
    url = study_url(sweep, folder)
    if sweep.outputs.study is not None:
        return open_storage(url)
    set_aside_if_damaged(folder / FILE)
    try:
        return open_storage(url)
    except StoreError as error:
        if not isinstance(error.__cause__, (RuntimeError, *DAMAGE_ERRORS)):  # Optuna refuses a schema by the first
            raise
        set_aside_study(folder / FILE, str(error.__cause__))
        return open_storage(url)


def study_url(sweep: Experiment, folder: Path) -> str:
    """Return the URL of the database of a sweep's study; `study_name` is the study's name."""
    if sweep.outputs.study is not None:
        return sweep.outputs.study
    return URL.create("sqlite", database=str(folder.absolute() / FILE)).render_as_string()


def study_name(folder: Path) -> str:
    """Return the name of a sweep's study: the folder's, unless the sweep's database had a study of this name before."""
    try:
        return str(json.loads((folder / NAME_FILE).read_bytes())["name"])
    except FileNotFoundError:
        return folder.name
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"the name of the study must be readable, but {folder / NAME_FILE} is not: {error}") from error


def _claim_study(
    storage: BaseStorage,
    folder: Path,
    directions: Sequence[StudyDirection],
    *,
    is_shared: bool,
    known: Sequence[KnownTrial],
) -> str:
    """Create a sweep's study, or find the one that it created before, and return its name.

    Names of folders are unique in a results folder only: in a database that sweeps of several results folders share, a
    new sweep gets a name of its own. A sweep of earlier code has no record of the name, which is the folder's.
    """
    try:
        name, is_lost = study_name(folder), False
    except StoreError as error:
        set_aside(folder / NAME_FILE, str(error.__cause__), "its trials are exported to a new study")
        name, is_lost = folder.name, is_shared
    if (folder / NAME_FILE).exists() or (known and not is_lost) or not is_shared:
        optuna.create_study(study_name=name, storage=storage, directions=directions, load_if_exists=True)
        return name
    try:
        optuna.create_study(study_name=name, storage=storage, directions=directions)
    except DuplicatedStudyError:
        name = f"{folder.name}-{secrets.token_hex(4)}"
        optuna.create_study(study_name=name, storage=storage, directions=directions)
    write_atomically(folder / NAME_FILE, json.dumps({"name": name}).encode())
    try_to_push([folder / NAME_FILE])
    return name


def open_storage(url: str) -> BaseStorage:
    """Return the database at a URL, with its tables created where they are missing.

    Raises:
        StoreError: it does not answer, its driver is not installed, or it has tables of another program.
    """
    waiting = {"connect_args": {"timeout": SQLITE_WAIT_S}} if url.startswith("sqlite") else {}
    _check_options(url)
    try:
        # Trials end minutes or hours apart: no connection is kept open, to be found dead then.
        storage = RDBStorage(url, engine_kwargs={"poolclass": NullPool} | waiting)
        optuna.get_all_study_names(storage)
    except Exception as error:  # RuntimeError of another schema, and errors of drivers and of alembic
        raise _no_answer(url, error) from error
    return storage


def _no_answer(url: str, error: Exception) -> StoreError:
    """Return the error for a database that does not answer; Optuna's own error hides the one of the database."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
    reason = " ".join(str(cause).split("\n\n")[0].partition("\n[SQL")[0].split()) or type(cause).__name__
    return StoreError(f"the study's database must answer, but {_shown(url)} does not: {reason}")


def _check_options(url: str) -> None:
    """Check that `?` begins options: SQLAlchemy would take a path with a `?` for a shorter one, in silence.

    Raises:
        StoreError: it does not.
    """
    _, mark, options = url.partition("?")
    if mark and not all("=" in option for option in options.split("&")):
        raise StoreError(
            f"`?` begins the options of a database's URL, but got {_shown(url)}; a ? in a path is written as %3F"
        )


def _shown(url: str) -> str:
    """Return the URL without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (SQLAlchemyError, ValueError):  # such as of a port that is no number
        return url.partition("://")[0] + "://…"
