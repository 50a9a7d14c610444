"""The callback that completes the records of trials: ends that a trial's own process could not record.

Tune's own states do not distinguish an early stop from the end of the sweep, nor record that a process was killed. A
sweep is resumed from its records: a stop is recorded here before Tune closes the trial, and ends that a process could
not record are recorded after it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from mcl_ray.callbacks import SweepCallback, TrialEnd, TrialInfo, TrialResult
from mcl_ray.errors import StoreError, WorkerDiedError
from searches.sweep_recorder import log_store_errors
from trainables.trial_job import TrialJob, config_of


class TrialRecorder(SweepCallback):
    """Follows the trials of one sweep, and records how they ended where they did not."""

    must_succeed: ClassVar[bool] = True

    def __init__(self, job: TrialJob) -> None:
        self._job = job
        self._started: dict[str, TrialInfo] = {}
        self._ended: set[str] = set()
        self._stopping: list[dict[str, Any]] = []
        self.unrecorded: str | None = None
        """Why a trial could not be recorded; None if all were."""

    def on_trial_start(self, trial: TrialInfo) -> None:
        """Note that a trial has started."""
        self._started[trial.name] = trial

    def on_trial_result(self, trial: TrialInfo, result: TrialResult) -> None:
        """Record that a trial is to be stopped, before Tune ends it."""
        if result.is_last:
            with log_store_errors(f"trial {trial.name} is stopped after epoch {result.epoch}"):
                self._job.decide_stop(config_of(trial), result.epoch)

    def on_trial_end(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Record the failure of a trial whose process died, and early stops once the processes have ended."""
        self._started[trial.name] = trial
        if end.state == "unrecorded":
            self.unrecorded = end.error
            return
        self._ended.add(trial.name)
        with log_store_errors(f"trial {trial.name} has ended ({end.state})"):
            if end.process_died:
                died = WorkerDiedError("the trial's process went away: killed, or its node lost")
                self._job.record_failure(config_of(trial), died)
            elif end.state != "failed":
                self._stopping.append(config_of(trial))
            self._stopping = [config for config in self._stopping if not self._job.has_stopped(config)]

    @property
    def num_ended(self) -> int:
        """Number of trials that ended since this recorder was created."""
        return len(self._ended)

    @property
    def unfinished(self) -> list[TrialInfo]:
        """Trials that started and have not ended."""
        return [trial for name, trial in self._started.items() if name not in self._ended]

    def close(self) -> None:
        """Record early stops that are not recorded yet, and trials without an end as interrupted.

        Raises:
            StoreError: a trial could not be recorded, earlier or now; all trials without a recorded end can be resumed.
        """
        try:
            for config in self._stopping:
                self._job.record_stop(config)
            for trial in self.unfinished:
                self._job.record_interruption(config_of(trial))
        except StoreError as error:
            self.unrecorded = self.unrecorded or str(error)
        if self.unrecorded:
            raise StoreError(self.unrecorded)
