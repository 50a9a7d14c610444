"""The callback that Tune calls, which turns its trial events into those of `mcl_ray.callbacks`.

Tune pickles its callbacks into its snapshot, and a terminal, a lock or a database connection cannot be pickled. So
`TuneCallback` holds the id of its sweep alone, and finds the receiver of its events in this process by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial
from ray.tune.result import DONE

from mcl_ray.callbacks import SweepCallback, TrialEnd, TrialInfo, TrialResult, TrialState, notify
from trainables.trial_job import EPOCH, FAILED, SCORE, UNWRITTEN, info_of

PROCESS_DIED = "its process died"

_receivers: dict[str, TrialEvents] = {}
"""Sweep's id → receiver of its events, while the sweep runs in this process."""


class TrialEvents:
    """Receives Tune's events of the trials of one sweep, and sends ours to callbacks."""

    def __init__(self, callbacks: Sequence[SweepCallback], *, epochs: int, costs: Sequence[str] = ()) -> None:
        """Create a receiver.

        Args:
            callbacks: Are called in this order.
            epochs: Epochs of a trial that trains to the end; one that completes earlier was stopped.
            costs: Keys of the costs in a trial's reports.
        """
        self._callbacks, self._epochs, self._costs = callbacks, epochs, costs
        self._unrecorded: set[str] = set()

    def start(self, trial: Trial) -> None:
        """Send that a trial starts or continues."""
        notify(self._callbacks, "on_trial_start", _info(trial))

    def result(self, trial: Trial, report: Mapping[str, Any]) -> None:
        """Send a trial's report; one that failed reports no score, and its end follows."""
        if UNWRITTEN in report:
            self._end_unrecorded(trial, report)
        elif result := self._result(report):
            is_last = DONE in report and report[DONE] and result.epoch < self._epochs
            notify(self._callbacks, "on_trial_result", _info(trial), replace(result, is_last=is_last))

    def complete(self, trial: Trial) -> None:
        """Send that a trial trained to the end, was stopped early, or reported that it failed."""
        report = trial.last_result or {}
        result, failure = self._result(report), report.get(FAILED)
        if UNWRITTEN in report:
            self._end_unrecorded(trial, report)
        elif failure is not None:
            self._end(trial, "failed", error=str(failure))
        else:
            finished = result is not None and result.epoch == self._epochs
            self._end(trial, "finished" if finished else "stopped", result)

    def die(self, trial: Trial) -> None:
        """Send that the process of a trial died, more often than it is restarted."""
        result = self._result(trial.last_result or {})
        self._end(trial, "failed", result, error=PROCESS_DIED, process_died=True)

    def heartbeat(self) -> None:
        """Send a tick."""
        notify(self._callbacks, "on_heartbeat")

    def _result(self, report: Mapping[str, Any]) -> TrialResult | None:
        if SCORE not in report:
            return None
        figures = {name: report[name] for name in ("mean", "std", "n") if name in report}
        costs = {cost: float(report[cost]) for cost in self._costs if cost in report}
        score = float(report[SCORE])
        spread = {"mean": score, "std": 0.0, "n": 1} | figures
        return TrialResult(epoch=report[EPOCH], score=score, **spread, costs=costs)

    def _end_unrecorded(self, trial: Trial, report: Mapping[str, Any]) -> None:
        """Send this end once: Tune may stop everything after the report, without completing the trial."""
        if _info(trial).name not in self._unrecorded:
            self._unrecorded.add(_info(trial).name)
            self._end(trial, "unrecorded", error=str(report[UNWRITTEN]))

    def _end(self, trial: Trial, state: TrialState, result: TrialResult | None = None, **details: Any) -> None:
        notify(self._callbacks, "on_trial_end", _info(trial), TrialEnd(state=state, result=result, **details))


@contextmanager
def receiving(sweep_id: str, events: TrialEvents) -> Iterator[None]:
    """Receive the events of a sweep's `TuneCallback` inside this context."""
    _receivers[sweep_id] = events
    try:
        yield
    finally:
        del _receivers[sweep_id]


class TuneCallback(Callback):
    """The callback that Tune pickles: the id of the sweep whose events it forwards."""

    def __init__(self, sweep_id: str) -> None:
        self._sweep_id = sweep_id

    @property
    def _events(self) -> TrialEvents:
        return _receivers[self._sweep_id]

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Forward that a trial starts, or is restarted."""
        self._events.start(trial)

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **_: Any
    ) -> None:
        """Forward a report, which is not yet the trial's `last_result`."""
        self._events.result(trial, result)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Forward that a trial returned or was stopped early."""
        self._events.complete(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **_: Any) -> None:
        """Forward that a trial failed without a report of its own."""
        self._events.die(trial)

    def on_step_end(self, iteration: int, trials: list[Trial], **_: Any) -> None:
        """Forward a tick of Tune's event loop."""
        self._events.heartbeat()


class StopOnStorageError(Stopper):
    """Ends a sweep once a trial could not be recorded: no other could."""

    def __init__(self) -> None:
        self._failed = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Read a report; no trial is stopped by it alone."""
        self._failed |= UNWRITTEN in result
        return False

    def stop_all(self) -> bool:
        """Return whether the sweep ends."""
        return self._failed


def _info(trial: Trial) -> TrialInfo:
    return info_of(trial.config)
