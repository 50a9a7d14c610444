"""The front door of a single run: `python -m mcl_ray.train digits epochs=5`.

Several workers share it, each with its part of every batch: on Ray with `--workers 2`, and without Ray by
`torchrun --nproc-per-node 2 -m mcl_ray.train digits`. Runs that build on each other are one command, `moco+lincls`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mcl_ray import runner
from mcl_ray.cli import app
from mcl_ray.config.environment import Environment
from mcl_ray.config.execution import DEFAULT_EXECUTION, ExecutionOptions
from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import UserError
from mcl_ray.object_store import Uri
from mcl_ray.pipeline import Stage, found_at, stages
from mcl_ray.torchrun import TorchrunEnv, read_torchrun_env


def train(
    name: str,
    /,
    *overrides: Annotated[str, Parameter(help=app.OVERRIDES_HELP)],
    execution: app.Options = DEFAULT_EXECUTION,
    source: Annotated[Uri | Path | None, Parameter(name="--from")] = None,
    download: bool = False,
    threads: int | None = None,
    resume: bool = False,
    dry_run: bool = False,
) -> None:
    """Train one cohort.

    Args:
        name: A recipe (`mcl recipes` lists them), or a spec file ending in .yaml; or moco+lincls, one after the other.
        source: What linear classification freezes: a run's folder or id, or a checkpoint, its own or one of MoCo's.
        download: Fetch the data set if it is missing.
        threads: CPU threads inside one operation, without Ray; torch's own choice if not given.
        resume: Go on with the newest run of this spec where it stopped.
        dry_run: Print the resolved spec and what it would do, without doing it.
    """
    planned = stages(name, overrides)
    worker = read_torchrun_env()
    workers = _check(execution, threads, worker)
    alone = execution.alone(download=download, threads=threads)
    first = None if source is None else found_at(source, alone.results)
    if dry_run:
        if worker.rank == 0:
            _print_plans(planned, first, alone, workers)
        return
    if len(planned) > 1:
        _check_later(planned, first, alone, workers)
    resolved, done = planned[0].resolved(first), list[Path]()
    with runner.joined_group(
        worker, execution.environment(download=download) if _is_on_ray(execution) else alone
    ) as here:
        for stage in planned:
            spec, backbone = stage.resolved(done[-1]) if done else resolved
            environment = dataclasses.replace(here, backbone=backbone)
            done.append(
                _run(spec, execution, environment, worker, resume=resume and _may_resume(spec, environment, done))
            )
    if len(done) > 1 and worker.rank == 0:
        _print_together(done)


def _run(
    spec: RunSpec, execution: ExecutionOptions, environment: Environment, worker: TorchrunEnv, *, resume: bool
) -> Path:
    if _is_on_ray(execution):
        return runner.run_on_ray(spec, execution, environment, resume=resume)
    if worker.world_size > 1:
        return runner.run_distributed(spec, environment, worker, resume=resume)
    return runner.run_local(spec, environment, resume=resume)


def _may_resume(spec: RunSpec, environment: Environment, done: list[Path]) -> bool:
    """A stage after the first may not have been begun when the command before ended."""
    from mcl_ray.results.store import find_run

    return not done or find_run(environment.results, spec) is not None


def _print_plans(
    planned: list[Stage], source: Path | None, environment: Environment, workers: tuple[int, int] | None
) -> None:
    from mcl_ray.reports.dry_run import print_run_plan

    for spec, there in _expected(planned, source, environment):
        print_run_plan(spec, there, app.stdout(), workers)


def _expected(
    planned: list[Stage], source: Path | None, environment: Environment
) -> Iterator[tuple[RunSpec, Environment]]:
    """What each stage will train and where, as far as it can be said before the one before has."""
    cohort = None
    for stage in planned:
        spec, backbone = (stage.expected(source, cohort), None) if stage.is_later else stage.resolved(source)
        yield spec, dataclasses.replace(environment, backbone=backbone)
        cohort = spec.cohort


def _check_later(
    planned: list[Stage], source: Path | None, environment: Environment, workers: tuple[int, int] | None
) -> None:
    """What a later stage would be refused for is told before the first one trains."""
    from mcl_ray.training.estimate import estimate_run

    for stage, (spec, there) in zip(planned, _expected(planned, source, environment), strict=True):
        if stage.is_later:
            estimate_run(spec, there, workers or (1, 1))


def _print_together(folders: list[Path]) -> None:
    """One table of runs that build on each other."""
    from mcl_ray.analysis.ranking import summary
    from mcl_ray.reports.terminal import stages_table
    from mcl_ray.results.store import read_epochs, read_runs

    app.stdout().print(stages_table([summary(read_runs(folder), read_epochs(folder)) for folder in folders]))


def _is_on_ray(execution: ExecutionOptions) -> bool:
    return execution.workers is not None or execution.address is not None


def _check(execution: ExecutionOptions, threads: int | None, worker: TorchrunEnv) -> tuple[int, int] | None:
    """Fewest and most workers, if there are to be any; options that would do nothing are errors.

    Raises:
        UserError: options contradict each other, or ask for what is not there.
    """
    if not _is_on_ray(execution):
        if (execution.cpus_per_worker, execution.gpus_per_worker) != (
            DEFAULT_EXECUTION.cpus_per_worker,
            DEFAULT_EXECUTION.gpus_per_worker,
        ):
            raise UserError("--cpus-per-worker and --gpus-per-worker are of workers on Ray, but --workers is missing")
        if execution.no_dashboard:
            raise UserError("--no-dashboard is of a Ray that is started here, but --workers is missing")
        return None if worker.world_size == 1 else (worker.world_size, worker.world_size)
    if worker.world_size > 1:
        raise UserError(
            f"workers come from torchrun or from Ray, but torchrun started {worker.world_size}, and --workers or "
            "--address asks Ray for some"
        )
    if threads is not None:
        raise UserError(f"the threads of workers on Ray are their --cpus-per-worker, but got --threads {threads}")
    execution.check()
    return execution.group or (1, 1)
