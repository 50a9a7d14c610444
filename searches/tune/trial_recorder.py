"""The driver's account of a sweep: which trials ended, and what they could not put on record themselves.

Tune's own states do not tell an early stop from the end of the sweep, nor a killed process from anything; records are
what a sweep resumes from, so they are set right here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.tune.experiment import Trial

from mcl_ray.errors import StoreError, WorkerDiedError
from trainables.trial_job import FAILED, UNWRITTEN, TrialJob


class TrialRecorder:
    """Listens to the sweep's trials."""

    def __init__(self, job: TrialJob) -> None:
        self._job = job
        self._begun: dict[str, Trial] = {}
        self._ended: set[str] = set()
        self._stopping: list[dict[str, Any]] = []
        self.unwritten: str | None = None
        """Why a trial could not be put on record."""

    def __call__(self, event: str, trial: Trial, result: Mapping[str, Any]) -> None:
        """Note what happened to a trial."""
        self._begun[trial.trial_id] = trial
        if event == "unwritten":
            self.unwritten = str(result[UNWRITTEN])
        if event in ("completed", "failed"):
            self._ended.add(trial.trial_id)
        if event == "failed":
            gone = WorkerDiedError("the trial's process went away: killed, or its node lost")
            self._job.record_failure(trial.config, gone)
        elif event == "completed" and failure(result) is None:
            self._stopping.append(trial.config)
        self._stopping = [config for config in self._stopping if not self._job.has_stopped(config)]

    @property
    def num_ended(self) -> int:
        """Trials that came to an end since this account was opened."""
        return len(self._ended)

    @property
    def unfinished(self) -> list[Trial]:
        """Trials that were begun and did not come to an end."""
        return [trial for name, trial in self._begun.items() if name not in self._ended]

    def close(self) -> None:
        """Put on record, of trials that were stopped early, that they were, and of those without an end, to go on.

        Raises:
            StoreError: a trial could not be put on record, in its course or now; all that have no end there go on.
        """
        try:
            for config in self._stopping:
                self._job.record_stop(config)
            for trial in self.unfinished:
                self._job.record_interruption(trial.config)
        except StoreError as error:
            self.unwritten = self.unwritten or str(error)
        if self.unwritten:
            raise StoreError(self.unwritten)


def failure(result: Mapping[str, Any]) -> str | None:
    """Why a trial says that it failed; None for one that did not."""
    said = result.get(FAILED)
    return None if said is None else str(said)
