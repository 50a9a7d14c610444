"""Tune's callback, which forwards to whoever listens in the process that runs the sweep now.

Tune pickles its callbacks into its snapshot, and what follows a sweep (a terminal, a lock) cannot be pickled: so the
relay has no state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial

from mcl_ray.errors import StoreError
from trainables.trial_job import UNWRITTEN

_log = logging.getLogger(__name__)


class Listener(Protocol):
    """Hears of every change of a trial."""

    def __call__(self, event: str, trial: Trial, result: Mapping[str, Any]) -> None:
        """`event` is started, reported, completed, failed or unwritten; `result` is the trial's last report, or empty.

        A trial that could not be put on record is `unwritten` and has not come to its end.
        """


_listeners: list[Listener] = []
_at_each_step: list[Callable[[], None]] = []


@contextmanager
def listening(*listeners: Listener, at_each_step: Callable[[], None] | None = None) -> Iterator[None]:
    """Forward to these for as long as the context lasts; and call `at_each_step`, several times a second."""
    _listeners.extend(listeners)
    _at_each_step.extend([at_each_step] if at_each_step else [])
    try:
        yield
    finally:
        _listeners.clear()
        _at_each_step.clear()


class TuneCallback(Callback):
    """The callback that Tune keeps."""

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """A trial starts, or goes on after a resume."""
        _tell("started", trial)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """A trial finished an epoch."""
        _tell("unwritten" if UNWRITTEN in result else "reported", trial, result)  # which is not yet the trial's last

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """A trial reached its last epoch or was stopped early."""
        _tell("unwritten" if UNWRITTEN in (trial.last_result or {}) else "completed", trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """A trial failed; the sweep goes on."""
        _tell("failed", trial)

    def on_step_end(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        """Tune looked whether anything happened, and maybe nothing did."""
        for call in _at_each_step:
            try:
                call()
            except StoreError as error:
                _log.warning("the sweep goes on, but not on record: %s", error)


class StopOnStorageError(Stopper):
    """Ends a sweep once a trial could not be put on record: no other could."""

    def __init__(self) -> None:
        self._over = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Look at a report; no trial is stopped by this alone."""
        self._over |= UNWRITTEN in result
        return False

    def stop_all(self) -> bool:
        """Whether it is over."""
        return self._over


def _tell(event: str, trial: Trial, result: Mapping[str, Any] | None = None) -> None:
    """A listener that cannot write misses this; the sweep's own record, if it cannot be written either, says so."""
    for listener in _listeners:
        try:
            listener(event, trial, result or trial.last_result or {})
        except StoreError as error:
            _log.warning("trial %s %s, and it could not be put on record: %s", trial.trial_id, event, error)
