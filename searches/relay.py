"""Tune's callback, which forwards to whoever listens in the process that runs the sweep now.

Tune pickles its callbacks into its snapshot, and what follows a sweep (a terminal, a lock) cannot be pickled: so the
relay has no state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from ray.tune import Callback
from ray.tune.experiment import Trial

from mcl_ray.errors import StoreError

_log = logging.getLogger(__name__)


class Listener(Protocol):
    """Hears of every change of a trial."""

    def __call__(self, event: str, trial: Trial, result: Mapping[str, Any]) -> None:
        """`event` is started, reported, completed or failed; `result` is the last that the trial reported, or empty."""


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


class Relay(Callback):
    """The callback that Tune keeps."""

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """A trial starts, or goes on after a resume."""
        _tell("started", trial)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """A trial finished an epoch."""
        _tell("reported", trial, result)  # which is not yet the trial's last

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """A trial reached its last epoch or was stopped early."""
        _tell("completed", trial)

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


def _tell(event: str, trial: Trial, result: Mapping[str, Any] | None = None) -> None:
    """A listener that cannot write misses this; the sweep's own record, if it cannot be written either, says so."""
    for listener in _listeners:
        try:
            listener(event, trial, result or trial.last_result or {})
        except StoreError as error:
            _log.warning("trial %s %s, and it could not be put on record: %s", trial.trial_id, event, error)
