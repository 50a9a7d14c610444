"""Tune's callback, which forwards to whoever listens in the process that runs the sweep now.

Tune pickles its callbacks into its snapshot, and what follows a sweep (a terminal, a lock) cannot be pickled: so the
relay has no state.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from ray.tune import Callback
from ray.tune.experiment import Trial


class Listener(Protocol):
    """Hears of every change of a trial."""

    def __call__(self, event: str, trial: Trial, trials: list[Trial]) -> None:
        """`event` is started, reported, completed or failed."""


_listeners: list[Listener] = []


@contextmanager
def listening(*listeners: Listener) -> Iterator[None]:
    """Forward to these for as long as the context lasts."""
    _listeners.extend(listeners)
    try:
        yield
    finally:
        _listeners.clear()


class Relay(Callback):
    """The callback that Tune keeps."""

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """A trial starts, or goes on after a resume."""
        _tell("started", trial, trials)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """A trial finished an epoch."""
        _tell("reported", trial, trials)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """A trial reached its last epoch or was stopped early."""
        _tell("completed", trial, trials)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """A trial failed; the sweep goes on."""
        _tell("failed", trial, trials)


def _tell(event: str, trial: Trial, trials: list[Trial]) -> None:
    for listener in _listeners:
        listener(event, trial, trials)
