"""A single-worker trial: one configuration trained inside the Tune trial itself, by the same loop as everywhere.

Tune stops trials early between epochs. Checkpoints and records are ours, so that a restarted trial resumes from its
runs' folders. A trial that fails reports it and returns: its process runs the next trial.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing
from functools import lru_cache
from typing import Any

from ray import tune

from mcl_ray.config.environment import Environment
from mcl_ray.config.spec import DataSpec
from mcl_ray.data.dataset import Dataset
from mcl_ray.data.source import load_dataset
from mcl_ray.training.multi_seed import run_in_lockstep
from mcl_ray.training.recorded_run import iter_recorded_run, machine_provenance
from trainables.prometheus import PrometheusCallback
from trainables.trial_job import TRIAL, TrialJob

_log = logging.getLogger(__name__)


def train_trial(config: dict[str, Any], job: TrialJob) -> None:
    """Train one configuration and report every epoch to Tune; or, as its last report, the error that ended it."""
    try:
        _train(config, job)
    except Exception as error:
        _log.exception("trial %s failed", config[TRIAL])  # with the traceback, in Ray's log of this process
        tune.report(job.ended_by(config, error))


def _train(config: dict[str, Any], job: TrialJob) -> None:
    job = job.on_this_node()
    with ExitStack() as stack:
        provenance = machine_provenance(job.environment)
        started = [(spec, stack.enter_context(writer)) for spec, writer in job.begin(config, provenance)]
        environment = job.environment
        data = {spec.data: _dataset(spec.data, environment) for spec, _ in started}
        runs = [
            iter_recorded_run(
                spec, data[spec.data], environment, writer, [PrometheusCallback(job.sweep.name, config[TRIAL])]
            )
            for spec, writer in started
        ]
        # An early stop is a SystemExit raised by the report: it closes the runs, which record that they were stopped.
        for epochs in stack.enter_context(closing(run_in_lockstep(runs))):
            tune.report(job.report(epochs, [writer for _, writer in started]))


@lru_cache(maxsize=1)
def _dataset(spec: DataSpec, environment: Environment) -> Dataset:
    """Return the data set, read once in a process: consecutive trials share it."""
    return load_dataset(spec, environment)
