"""A worker's part in a group: the same loop as everywhere, and after each epoch a word to Ray Train.

The first worker has the records. Who starts workers, and what becomes of their errors, is `group.py`.
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

from mcl_ray.config.environment import Environment
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.source import load_dataset
from mcl_ray.distributed import is_rank_zero, run_on_all_ranks, run_on_rank_zero
from mcl_ray.errors import CheckpointError, MclError, NonFiniteLossError
from mcl_ray.results.remote.pull import open_replica
from mcl_ray.results.store import RunWriter
from mcl_ray.training.loop import Told
from mcl_ray.training.multi_seed import RunIterator, run_in_lockstep
from mcl_ray.training.recorded_run import machine_provenance
from trainables.prometheus import run_with_gauges
from trainables.trial_job import EPOCH, TRIAL, TrialJob, point_of


class RankLocalError(Exception):
    """One worker met an error that the others do not know of, and wait for it."""

    def __init__(self, error: MclError) -> None:
        super().__init__(error)
        self.error = error


def train_run(spec: RunSpec, environment: Environment, folder: Path) -> None:
    """Train the run in `folder`, begun or gone on with."""
    environment = _with_local_device(environment)

    def begin() -> RunWriter | None:
        run_id = folder.name
        root = folder.parents[1] if environment.store is None else open_replica(environment.store)
        return RunWriter.begin(root, run_id, spec, facts=machine_provenance(environment)) if is_rank_zero() else None

    dataset = run_on_all_ranks(partial(load_dataset, spec.data, environment))
    writer = run_on_all_ranks(begin)
    with closing(run_with_gauges(spec, dataset, environment, writer)) as run:
        for told in run:
            ray.train.report({EPOCH: told.report.epoch})


def train_configuration(config: dict[str, Any], job: TrialJob, report: Callable[[dict[str, float]], bool]) -> None:
    """Train all runs of a trial, for as long as `report` wants them to go on; it hears of each epoch once."""
    job = job.on_this_node()
    environment = _with_local_device(job.environment)
    with ExitStack() as stack:

        def begin() -> Sequence[tuple[RunSpec, RunWriter | None]]:
            if not is_rank_zero():
                return [(spec, None) for spec in job.runs_of(point_of(config))]
            return [
                (spec, stack.enter_context(writer))
                for spec, writer in job.begin(config, machine_provenance(environment))
            ]

        begun = run_on_all_ranks(begin)
        labels = (job.sweep.name, config[TRIAL])
        data = {spec.data: run_on_all_ranks(partial(load_dataset, spec.data, environment)) for spec, _ in begun}
        runs = [_shared(run_with_gauges(spec, data[spec.data], environment, writer, *labels)) for spec, writer in begun]
        writers = [writer for _, writer in begun if writer is not None]
        for told in stack.enter_context(closing(run_in_lockstep(runs))):
            if not run_on_rank_zero(partial(_say, job, told, writers, report)):
                return


def _say(job: TrialJob, told: list[Told], writers: list[RunWriter], report: Callable[[dict[str, float]], bool]) -> bool:
    return report(job.report(told, writers))


def _shared(run: RunIterator) -> RunIterator:
    """The run, with the errors that every worker meets at the same step; any other ends the group.

    Of an error that another seed met alone, the run hears as if it was its own.
    """
    try:
        with closing(run):
            for told in run:
                try:
                    yield told
                except Exception as error:
                    run.throw(error.error if isinstance(error, RankLocalError) else error)
    except (NonFiniteLossError, CheckpointError):
        raise
    except MclError as error:
        raise RankLocalError(error) from error


def _with_local_device(environment: Environment) -> Environment:
    """The environment with this worker's own device: the workers of a node see each other's."""
    device = ray.train.torch.get_device()
    return environment if device.type == "cpu" else replace(environment, device=str(device))
