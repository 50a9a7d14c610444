"""The trials that a pack trains in joint steps, and the measurement of how many it should be."""

from __future__ import annotations

import logging
from collections.abc import Generator, Set
from typing import Any

from ray.tune.result import RESULT_DUPLICATE

from mcl_ray.data.source import load_dataset
from mcl_ray.training.pack import Pack
from mcl_ray.training.pack_size import PackSize, measure_pack_size
from trainables.trial_job import TrialJob
from trainables.trial_training import Report, iter_reports

NO_MORE: Report = {RESULT_DUPLICATE: True}
"""Tune's marker of the last report."""

_log = logging.getLogger(__name__)


def measured(job: TrialJob, most: int) -> PackSize:
    """Return how many trials are trained fastest together, at most this many; to be called on a worker of Ray."""
    job = job.on_this_node()
    dataset = load_dataset(job.run.data, job.environment)
    return measure_pack_size(job.run, dataset, job.environment, most)


class PackTraining:
    """Trains several trials, each by reports of its own; one that fails leaves the others.

    Args:
        job: the job of the sweep, for this node.
    """

    def __init__(self, job: TrialJob) -> None:
        self._job, self._pack = job, Pack()
        self._trials: dict[str, Generator[Report | None]] = {}

    @property
    def names(self) -> Set[str]:
        """Names of the trials that were started and not closed."""
        return self._trials.keys()

    def start(self, name: str, config: dict[str, Any]) -> Report | None:
        """Build the runs of a trial, and return None; one that resumes or fails has a report at once."""
        self._trials[name] = iter_reports(config, self._job, self._pack)
        return self._next(name, config)

    def advance(self, name: str, config: dict[str, Any]) -> Report:
        """Return the next report of a trial, after training all trials that are due; `NO_MORE` after the last one."""
        report = self._next(name, config)
        assert report is not None, "runs that are built have reports"
        return report

    def close(self, name: str) -> None:
        """Close the runs of a trial; if that fails, as on a full disk, the driver records how they ended."""
        try:
            self._trials.pop(name).close()
        except Exception:  # the thread that trains must go on: all other trials wait for it
            _log.exception("the runs of trial %s could not be closed", name)

    def _next(self, name: str, config: dict[str, Any]) -> Report | None:
        try:
            return next(self._trials[name], NO_MORE)
        except Exception as error:
            _log.exception("trial %s failed", name)  # with the traceback, in Ray's log of this process
            return self._job.ended_by(config, error)
