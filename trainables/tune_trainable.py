"""A trial with several workers: it forwards the reports of rank 0 to Tune, and Tune's decisions to the workers.

With a function trainable, Tune would stop a trial by killing it. The workers' resources would then be freed, if at all,
by a process that asks the dashboard of any Ray on the machine.
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
from trainables.trial_job import TRIAL, TrialJob, info_of

TRIAL_RESOURCES = {"CPU": 0.0, "memory": 1.0}
"""Resources of the trial itself: one byte of memory, as Tune requires some; the cores are those of its workers."""

STOPS_WITHIN_S = 30.0

_log = logging.getLogger(__name__)


class GroupTrial(tune.Trainable):
    """Trains one configuration in a group of workers; to be run with `TRIAL_RESOURCES`."""

    def setup(self, config: dict[str, Any], job: TrialJob, group: Group) -> None:  # type: ignore[override]
        """Start the workers, in a thread, without blocking Tune."""
        self._channel: Any = ray.remote(num_cpus=0)(ReportChannel).remote()
        self._training = threading.Thread(target=self._train, args=(config, job, group), daemon=True)
        self._training.start()

    def step(self) -> Metrics:
        """Return the report of the next epoch; or of a failure; the last one says that there are no more."""
        return cast("Metrics", ray.get(self._channel.next.remote()))

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing: a trial resumes from its runs' folders. Tune calls this whenever a trial ends."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Load nothing, as nothing was saved."""

    def cleanup(self) -> None:
        """Stop the workers, and wait until they have freed their resources.

        Workers that Tune stops after a report end this way. As a sweep ends, Tune may kill them in the middle of an
        epoch instead; their trial is resumed in any case.
        """
        ray.get(self._channel.stop.remote())
        self._training.join(STOPS_WITHIN_S)

    def _train(self, config: dict[str, Any], job: TrialJob, group: Group) -> None:
        job = job.on_this_node()
        channel, name = self._channel, f"{job.sweep.name}-{info_of(config).name}"
        try:
            group.train(partial(train_configuration, config, job, partial(_report, channel)), job.sweep, name)
        except Exception as error:
            _log.exception("trial %s failed", config[TRIAL])
            ray.get(channel.put.remote(job.ended_by(config, error)))
        finally:
            ray.get(channel.put.remote({RESULT_DUPLICATE: True}))  # Tune's marker of the last report


def _report(channel: Any, metrics: Metrics) -> bool:
    """Report from rank 0, and return whether to continue training."""
    return cast("bool", ray.get(channel.put.remote(metrics)))
