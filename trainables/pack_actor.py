"""The process of a pack: it trains several trials of a sweep in joint steps, each as a trial of its own for Tune.

A trial's own process (`packed_trial.py`) asks for its reports one by one. Requests come from several threads; one
thread trains. Checkpoints and records are those of every run, so that a pack that is restarted resumes its trials.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from concurrent.futures import Future
from typing import Any

from ray.tune.result import RESULT_DUPLICATE

from mcl_ray.data.source import load_dataset
from mcl_ray.training.pack import Pack
from mcl_ray.training.pack_size import PackSize, measure_pack_size
from trainables.trial_job import TrialJob, info_of
from trainables.trial_training import Report, iter_reports

LINGER_S = 1.0
"""Seconds that requests wait for those of the other trials; Tune answers the reports of an epoch one after another."""
NO_MORE: Report = {RESULT_DUPLICATE: True}
"""Tune's marker of the last report."""

_log = logging.getLogger(__name__)


def measured(job: TrialJob, most: int) -> PackSize:
    """Return how many trials are trained fastest together, at most this many; to be called on a worker of Ray."""
    job = job.on_this_node()
    dataset = load_dataset(job.run.data, job.environment)
    return measure_pack_size(job.run, dataset, job.environment, most)


class PackActor:
    """Trains up to `size` trials together; a Ray actor with at least one thread more than trials.

    Args:
        job: the job of the sweep.
        size: trials that it takes at once.
    """

    def __init__(self, job: TrialJob, size: int) -> None:
        self._job, self._size = job.on_this_node(), size
        self._pack = Pack()
        self._trials: dict[str, Generator[Report | None]] = {}
        self._changed = threading.Condition()
        self._accepted = set[str]()
        self._requests: dict[str, tuple[dict[str, Any], Future[Report]]] = {}
        threading.Thread(target=self._serve, name="training", daemon=True).start()

    def has(self, trial: str) -> bool:
        """Return whether a trial is taken, as one whose own process is restarted may be."""
        return trial in self._accepted

    def accept(self, trial: str) -> bool:
        """Take a trial, unless the pack is full, and return whether it is taken."""
        with self._changed:
            is_taken = len(self._accepted) < self._size
            if is_taken:
                self._accepted.add(trial)
        return is_taken

    def next(self, config: dict[str, Any]) -> Report:
        """Train the next epoch of a trial that is taken, and return its report; `NO_MORE` after the last one."""
        answer: Future[Report] = Future()
        with self._changed:
            self._requests[info_of(config).name] = config, answer
            self._changed.notify_all()
        return answer.result()

    def leave(self, trial: str) -> None:
        """Close the runs of a trial that has ended or was stopped, if it is one of this pack."""
        with self._changed:
            self._accepted.discard(trial)
            self._changed.notify_all()

    def _serve(self) -> None:
        """Answer requests, until the process ends."""
        while True:
            requests = self._collect()
            for name, (config, answer) in requests.items():
                if name not in self._trials:
                    self._start(name, config, answer)
            for name, (config, answer) in requests.items():
                if not answer.done():
                    answer.set_result(self._advance(name, config))

    def _collect(self) -> dict[str, tuple[dict[str, Any], Future[Report]]]:
        """Wait for requests, close the trials that have left, and return the requests."""
        with self._changed:
            self._changed.wait_for(lambda: self._requests or self._left)
            self._changed.wait_for(lambda: self._left or self._requests.keys() >= self._accepted, timeout=LINGER_S)
            left, requests = self._left, self._requests
            self._requests = {}
        for name in left:
            self._close(name)
        return requests

    def _close(self, name: str) -> None:
        """Close the runs of a trial; if that fails, as on a full disk, the driver records how they ended."""
        try:
            self._trials.pop(name).close()
        except Exception:  # the thread that trains must go on: all other trials wait for it
            _log.exception("the runs of trial %s could not be closed", name)

    @property
    def _left(self) -> set[str]:
        return self._trials.keys() - self._accepted

    def _start(self, name: str, config: dict[str, Any], answer: Future[Report]) -> None:
        """Build the runs of a trial; one that resumes has a report at once."""
        self._trials[name] = iter_reports(config, self._job, self._pack)
        report = self._advance(name, config)
        if report is not None:
            answer.set_result(report)

    def _advance(self, name: str, config: dict[str, Any]) -> Any:
        """Return the next report of a trial, or None once its runs are built."""
        try:
            return next(self._trials[name], NO_MORE)
        except Exception as error:
            _log.exception("trial %s failed", name)  # with the traceback, in Ray's log of this process
            return self._job.ended_by(config, error)
