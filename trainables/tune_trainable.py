"""A trial with a group of workers: it passes on what the first worker says of each epoch, and Tune's answer to it.

Tune's own way for this (a function that reports for its workers) ends a trial by killing it; what the workers held is
then freed, if at all, by a process that asks the dashboard of any Ray it finds on the machine.
"""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import Any, cast

import ray
from ray import tune
from ray.tune.result import RESULT_DUPLICATE

from trainables.report_channel import Metrics, ReportChannel
from trainables.torch_trainer import Group
from trainables.train_worker import train_configuration
from trainables.trial_job import TRIAL, TrialJob

TRIAL_RESOURCES = {"CPU": 0.0, "memory": 1.0}
"""What a trial reserves beside its group: one byte, since Tune wants something and the cores are the group's."""

STOPS_WITHIN_S = 30.0

_log = logging.getLogger(__name__)


class GroupTrial(tune.Trainable):
    """Trains one configuration in a group of its own; to be run with `TRIAL_RESOURCES`."""

    def setup(self, config: dict[str, Any], job: TrialJob, group: Group) -> None:  # type: ignore[override]
        """Start the group; Tune is not kept waiting."""
        self._turnstile: Any = ray.remote(num_cpus=0)(ReportChannel).remote()
        self._training = threading.Thread(target=self._train, args=(config, job, group), daemon=True)
        self._training.start()

    def step(self) -> Metrics:
        """What is reported of the next epoch; or that it failed, and why; at last, that all is said."""
        return cast("Metrics", ray.get(self._turnstile.next.remote()))

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: what a trial goes on from lies in its runs' folders. Tune asks whenever a trial ends."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing, again: Tune hands over the nothing that it saved to a trial that it starts once more."""

    def cleanup(self) -> None:
        """Have the group leave what it holds, if it has not already.

        One that Tune stops after a report waits for this. One in the middle of an epoch, as a sweep ends, may be killed
        instead: it is to go on in any case.
        """
        ray.get(self._turnstile.stop.remote())
        self._training.join(STOPS_WITHIN_S)

    def _train(self, config: dict[str, Any], job: TrialJob, group: Group) -> None:
        job = job.on_this_node()
        turnstile, name = self._turnstile, f"{job.sweep.name}-{config[TRIAL]}"
        try:
            group.train(partial(train_configuration, config, job, partial(_pass, turnstile)), job.sweep, name)
        except Exception as error:
            _log.exception("trial %s failed", config[TRIAL])
            ray.get(turnstile.put.remote(job.ended_by(config, error)))
        finally:
            ray.get(turnstile.put.remote({RESULT_DUPLICATE: True}))  # Tune's word for "that was the last"


def _pass(turnstile: Any, metrics: Metrics) -> bool:
    """What the first worker calls."""
    return cast("bool", ray.get(turnstile.put.remote(metrics)))
