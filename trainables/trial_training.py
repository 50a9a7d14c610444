"""The training of a trial's runs in one process: an iterator over their epochs' reports, whoever asks for them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, closing
from functools import lru_cache
from typing import Any

from mcl_ray.config.environment import Environment
from mcl_ray.config.spec import DataSpec
from mcl_ray.data.dataset import Dataset
from mcl_ray.data.source import load_dataset
from mcl_ray.training.multi_seed import run_in_lockstep
from mcl_ray.training.pack import Pack
from mcl_ray.training.recorded_run import iter_recorded_run, machine_provenance
from trainables.prometheus import PrometheusCallback
from trainables.trial_job import TRIAL, TrialJob

Report = dict[str, Any]


def iter_reports(config: dict[str, Any], job: TrialJob, pack: Pack | None = None) -> Generator[Report | None]:
    """Train one configuration, and yield the report of every epoch.

    Closing the generator closes the runs, which record that they were stopped or interrupted.

    Args:
        config: Tune's configuration of the trial.
        job: the job of the sweep, for this node.
        pack: runs of other trials, with which these share their steps.

    Yields:
        First None in a pack, once new runs are built and can be trained with the others.
    """
    with ExitStack() as stack:
        provenance = machine_provenance(job.environment)
        started = [(spec, stack.enter_context(writer)) for spec, writer in job.begin(config, provenance)]
        writers, environment = [writer for _, writer in started], job.environment
        data = {spec.data: _dataset(spec.data, environment) for spec, _ in started}
        callbacks = [PrometheusCallback(job.sweep.name, config[TRIAL])]
        runs = [
            iter_recorded_run(spec, data[spec.data], environment, writer, callbacks, pack) for spec, writer in started
        ]
        for epochs in stack.enter_context(closing(run_in_lockstep(runs))):
            yield job.report(epochs, writers) if epochs[0].epoch else None


@lru_cache(maxsize=1)
def _dataset(spec: DataSpec, environment: Environment) -> Dataset:
    """Return the data set, read once in a process: consecutive trials share it."""
    return load_dataset(spec, environment)
