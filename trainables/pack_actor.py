"""The process of a pack: it trains several trials of a sweep in joint steps, each as a trial of its own for Tune.

A trial's own process (`packed_trial.py`) asks for its reports one by one. Requests come from several threads; one
thread trains. Checkpoints and records are those of every run, so that a pack that is restarted resumes its trials.

Wherever a handle of an actor arrives, Ray imports the actor's class: this module, in the process of every trial. What
trains (`pack_training.py`), and torch with it, is therefore imported by the thread that needs it.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from trainables.trial_job import TrialJob, info_of

if TYPE_CHECKING:
    from trainables.pack_training import PackTraining
    from trainables.trial_training import Report

LINGER_S = 1.0
"""Seconds that requests wait for those of the other trials; Tune answers the reports of an epoch one after another."""


class PackActor:
    """Trains up to `size` trials together; a Ray actor with at least one thread more than trials.

    Args:
        job: the job of the sweep.
        size: trials that it takes at once.
    """

    def __init__(self, job: TrialJob, size: int) -> None:
        self._job, self._size = job.on_this_node(), size
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
        from trainables.pack_training import PackTraining

        training = PackTraining(self._job)
        while True:
            self._answer(self._collect(training), training)

    def _answer(self, requests: dict[str, tuple[dict[str, Any], Future[Report]]], training: PackTraining) -> None:
        for name, (config, answer) in requests.items():
            if name not in training.names:
                report = training.start(name, config)
                if report is not None:
                    answer.set_result(report)
        for name, (config, answer) in requests.items():
            if not answer.done():
                answer.set_result(training.advance(name, config))

    def _collect(self, training: PackTraining) -> dict[str, tuple[dict[str, Any], Future[Report]]]:
        """Wait for requests, close the trials that have left, and return the requests."""
        with self._changed:
            self._changed.wait_for(lambda: self._requests or training.names - self._accepted)
            self._changed.wait_for(
                lambda: training.names - self._accepted or self._requests.keys() >= self._accepted, timeout=LINGER_S
            )
            left, requests = training.names - self._accepted, self._requests
            self._requests = {}
        for name in left:
            training.close(name)
        return requests
