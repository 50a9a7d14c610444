"""Training from Python: one run, or a pipeline of runs that build on each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcl_ray import runner
from mcl_ray.callbacks import RunCallback
from mcl_ray.config.environment import Environment
from mcl_ray.config.execution import DEFAULT_EXECUTION, ExecutionOptions
from mcl_ray.config.spec import CohortSpec, RunSpec
from mcl_ray.errors import UserError
from mcl_ray.pipeline import Stage, found_at, import_named_plugins, stages
from mcl_ray.sdk.options import Overrides, RunOptions, assignments, checked, location, split_keywords
from mcl_ray.sdk.run import Run
from mcl_ray.torchrun import TorchrunEnv, read_torchrun_env

if TYPE_CHECKING:
    from mcl_ray.training.estimate import RunEstimate


class CohortTrainer:
    """Trains a cohort of networks by mutual contrastive learning, in this process, under torchrun, or on Ray.

    Example:
        >>> run = CohortTrainer("digits", alpha=0.3, epochs=2, workers=2).fit()
        >>> run.metrics["test/top1/mean"]
    """

    def __init__(
        self,
        name: str | Path | RunSpec,
        /,
        *,
        overrides: Overrides | None = None,
        source: str | Path | Run | None = None,
        callbacks: Sequence[RunCallback] = (),
        **options_and_fields: Any,
    ) -> None:
        """Resolve what to train, without training.

        Args:
            name: A recipe, several joined by `+` (a pipeline), the path of a spec file, or a spec.
            overrides: Fields of the spec by their short or full names, as a mapping or as `field=value` strings.
            source: Networks that a linear classification freezes: a run, its folder or id, or a checkpoint.
            callbacks: Receive the events of every run, in this process; on Ray, in a thread of it.
            **options_and_fields: Options, which are the fields of ExecutionOptions and `download`, `threads` and
                `resume`; every other name is a field of the spec.

        Raises:
            SpecError: a name or field is unknown, a value breaks a rule, or a plugin cannot be imported.
            UserError: options contradict each other, or cannot be met.
        """
        self._options, spec_fields = split_keywords(options_and_fields)
        base = name if isinstance(name, RunSpec) else str(name)
        given = assignments(spec_fields, overrides)
        import_named_plugins(base, given)
        self._stages = stages(base, given)
        self._callbacks = checked(callbacks, RunCallback)
        self._worker = read_torchrun_env()
        self.workers = _check(self._options, self._worker)
        """Smallest and largest number of workers; None for one process without workers."""
        self._source = _source(source, self._local_environment.results)
        if self._source is None:
            self._stages[0].resolved(None)  # raises for values that break a rule

    def estimate(self) -> list[StageEstimate]:
        """Return each run's spec and an estimate of its steps, parameters, memory and disk, without training.

        Raises:
            SpecError: the sampler cannot make the batches.
            DataError: the data set is present, but damaged.
            CheckpointError: the networks to freeze cannot be read, or are not those of the spec.
        """
        from mcl_ray.training.estimate import estimate_run

        return [
            StageEstimate(spec=spec, estimate=estimate_run(spec, environment, self.workers or (1, 1)))
            for spec, environment in self._expected()
        ]

    def fit(self) -> Run:
        """Train, and return the run; of a pipeline the last one, whose `pretraining` is the run before.

        Under torchrun, every process calls this and gets the run, and rank 0 calls the callbacks.

        Raises:
            UserError: the data, the results folder, the checkpoints or the cluster cannot be used.
            TrainingError: a run cannot continue; recorded as failed.
            KeyboardInterrupt: a user pressed Ctrl-C; recorded as interrupted.
        """
        if len(self._stages) > 1:
            self._check_later_stages()
        spec, backbone = self._stages[0].resolved(self._source)
        run: Run | None = None
        with runner.join_workers(self._worker, self._environment) as environment:
            for stage in self._stages:
                if run is not None:
                    spec, backbone = stage.resolved(run.folder)
                folder = self._train(spec, dataclasses.replace(environment, backbone=backbone), is_first=run is None)
                run = Run(folder, pretraining=run)
        assert run is not None, "a pipeline has a stage"
        return run

    def _train(self, spec: RunSpec, environment: Environment, *, is_first: bool) -> Path:
        resume = self._options.resume and (is_first or _was_started(spec, environment))
        callbacks = self._callbacks + _notebook_callbacks()
        if _is_on_ray(self._options.execution):
            return runner.run_on_ray(spec, self._options.execution, environment, resume=resume, callbacks=callbacks)
        if self._worker.world_size > 1:
            return runner.run_distributed(spec, environment, self._worker, resume=resume, callbacks=callbacks)
        return runner.run_local(spec, environment, resume=resume, callbacks=callbacks)

    @property
    def _local_environment(self) -> Environment:
        return self._options.execution.alone(download=self._options.download, threads=self._options.threads)

    @property
    def _environment(self) -> Environment:
        if _is_on_ray(self._options.execution):
            return self._options.execution.environment(download=self._options.download)
        return self._local_environment

    def _expected(self) -> Iterator[tuple[RunSpec, Environment]]:
        """Yield each stage's spec and environment, as far as they are known before the stage before has run."""
        cohort = None
        for stage in self._stages:
            spec, backbone = self._expect(stage, cohort)
            yield spec, dataclasses.replace(self._local_environment, backbone=backbone)
            cohort = spec.cohort

    def _expect(self, stage: Stage, cohort: CohortSpec | None) -> tuple[RunSpec, Path | None]:
        return (stage.expected(self._source, cohort), None) if stage.is_later else stage.resolved(self._source)

    def _check_later_stages(self) -> None:
        """Raise what a later stage would be refused for, before the first one trains."""
        from mcl_ray.training.estimate import estimate_run

        for stage, (spec, environment) in zip(self._stages, self._expected(), strict=True):
            if stage.is_later:
                estimate_run(spec, environment, self.workers or (1, 1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageEstimate:
    """A run that was not trained."""

    spec: RunSpec
    """The resolved spec."""
    estimate: RunEstimate
    """Steps, parameters, multiply-adds, memory and disk."""


def _source(source: str | Path | Run | None, results: Path) -> Path | None:
    if source is None:
        return None
    return source.folder if isinstance(source, Run) else found_at(location(source), results)


def _was_started(spec: RunSpec, environment: Environment) -> bool:
    """Return whether a later stage was started before the pipeline was interrupted."""
    from mcl_ray.results.store import find_run

    return find_run(environment.results, spec) is not None


def _notebook_callbacks() -> tuple[RunCallback, ...]:
    from mcl_ray.reports.notebook import is_notebook

    if not is_notebook():
        return ()
    from mcl_ray.reports.progress import NotebookRunCallback

    return (NotebookRunCallback(),)


def _is_on_ray(execution: ExecutionOptions) -> bool:
    return execution.workers is not None or execution.address is not None


def _check(options: RunOptions, worker: TorchrunEnv) -> tuple[int, int] | None:
    """Return the smallest and largest number of workers, if there are any.

    Raises:
        UserError: options contradict each other, cannot be met, or would have no effect.
    """
    execution = options.execution
    if execution.pack != DEFAULT_EXECUTION.pack:
        raise UserError(f"`--pack` requires a sweep, whose trials share their steps, but got --pack {execution.pack}")
    if not _is_on_ray(execution):
        _check_no_ray_options(execution, has_workers=worker.world_size > 1)
        return None if worker.world_size == 1 else (worker.world_size, worker.world_size)
    if worker.world_size > 1:
        raise UserError(
            "workers are started by torchrun or by Ray, not by both, but torchrun started "
            f"{worker.world_size}, and `--workers` or `--address` is given"
        )
    if options.threads is not None:
        raise UserError(
            f"`--threads` must not be given with workers on Ray, whose threads are `--cpus-per-worker`, but got "
            f"{options.threads}"
        )
    execution.check()
    return execution.group or (1, 1)


def _check_no_ray_options(execution: ExecutionOptions, *, has_workers: bool) -> None:
    execution.check_parallelism(has_workers=has_workers)
    for name in ("cpus_per_worker", "gpus_per_worker", "no_dashboard"):
        if (value := getattr(execution, name)) != getattr(DEFAULT_EXECUTION, name):
            option = f"--{name.replace('_', '-')}"
            got = option if value is True else f"{option} {value}"
            raise UserError(f"`{option}` requires `--workers` or `--address`, but got {got} alone")
