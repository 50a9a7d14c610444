"""A worker's part in a group: the same training loop as everywhere, with a report to Ray Train after each epoch.

Rank 0 has the records, and sends events to the driver. Who starts workers and handles their errors is
`torch_trainer.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch

from mcl_ray.callbacks import EpochEnd, RunCallback
from mcl_ray.config.environment import Environment
from mcl_ray.config.plugins import import_plugins
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.source import load_dataset
from mcl_ray.distributed import is_rank_zero, run_on_all_ranks, run_on_rank_zero
from mcl_ray.errors import CheckpointError, MclError, NonFiniteLossError
from mcl_ray.results.remote.pull import open_replica
from mcl_ray.results.store import RunWriter
from mcl_ray.training.multi_seed import RunIterator, run_in_lockstep
from mcl_ray.training.recorded_run import iter_recorded_run, machine_provenance
from trainables.prometheus import PrometheusCallback
from trainables.trial_job import EPOCH, TRIAL, TrialJob


class RankLocalError(Exception):
    """An error that one worker met alone, so that the others wait for it."""

    def __init__(self, error: MclError) -> None:
        super().__init__(error)
        self.error = error


def train_run(spec: RunSpec, environment: Environment, folder: Path, callbacks: Sequence[RunCallback] = ()) -> None:
    """Train the run in `folder`, from its last checkpoint if it has one; rank 0 calls the callbacks."""
    import_plugins(spec.plugins)
    environment = _with_local_device(environment)

    def open_writer() -> RunWriter | None:
        root = folder.parents[1] if environment.store is None else open_replica(environment.store)
        if not is_rank_zero():
            return None
        return RunWriter.begin(root, folder.name, spec, provenance=machine_provenance(environment))

    dataset = run_on_all_ranks(partial(load_dataset, spec.data, environment))
    writer = run_on_all_ranks(open_writer)
    run = iter_recorded_run(spec, dataset, environment, writer, (PrometheusCallback(), *callbacks))
    with closing(run):
        for epoch in run:
            ray.train.report({EPOCH: epoch.epoch})


def train_configuration(config: dict[str, Any], job: TrialJob, report: Callable[[dict[str, float]], bool]) -> None:
    """Train all runs of a trial until `report`, which rank 0 calls after each epoch, returns False."""
    job = job.on_this_node()
    environment = _with_local_device(job.environment)
    with ExitStack() as stack:

        def open_writers() -> Sequence[tuple[RunSpec, RunWriter | None]]:
            if not is_rank_zero():
                return [(spec, None) for spec in job.specs_of(config).values()]
            return [
                (spec, stack.enter_context(writer))
                for spec, writer in job.begin(config, machine_provenance(environment))
            ]

        started = run_on_all_ranks(open_writers)
        data = {spec.data: run_on_all_ranks(partial(load_dataset, spec.data, environment)) for spec, _ in started}
        runs = [
            _with_rank_local_errors(
                iter_recorded_run(
                    spec, data[spec.data], environment, writer, [PrometheusCallback(job.sweep.name, config[TRIAL])]
                )
            )
            for spec, writer in started
        ]
        writers = [writer for _, writer in started if writer is not None]
        for ends in stack.enter_context(closing(run_in_lockstep(runs))):
            if not run_on_rank_zero(partial(_report, job, ends, writers, report)):
                return


def _report(
    job: TrialJob, ends: list[EpochEnd], writers: list[RunWriter], report: Callable[[dict[str, float]], bool]
) -> bool:
    return report(job.report(ends, writers))


def _with_rank_local_errors(run: RunIterator) -> RunIterator:
    """Yield the run's events; raise, as RankLocalError, every error that other workers do not meet at the same step.

    A RankLocalError of another seed's run is thrown into this run as the error itself.
    """
    try:
        with closing(run):
            for epoch in run:
                try:
                    yield epoch
                except Exception as error:
                    run.throw(error.error if isinstance(error, RankLocalError) else error)
    except (NonFiniteLossError, CheckpointError):
        raise
    except MclError as error:
        raise RankLocalError(error) from error


def _with_local_device(environment: Environment) -> Environment:
    """Return the environment with this worker's own device: every worker of a node sees the devices of all."""
    device = ray.train.torch.get_device()
    return environment if device.type == "cpu" else replace(environment, device=str(device))
