"""The engine of a sweep: Ray Tune runs the trials, Optuna proposes them, our records keep what happened.

A sweep starts and goes on in the same way: what its records know is told to the sampler and the scheduler, and Tune is
asked for the trials that are left. Nothing here schedules anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from trainables.cluster.connect import bundle, connect, fits  # isort: skip -- sets Ray's environment
from ray import tune

from mcl_ray.config.environment import Environment
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.results.remote.pull import ray_storage, remove
from searches.progress import SweepProgress
from searches.spec.experiment import Experiment
from searches.trial_history import KnownTrial
from searches.tune.callback import StopOnStorageError, TuneCallback, listening
from searches.tune.checkpoint_retention import CheckpointRetention
from searches.tune.converters import to_scheduler
from searches.tune.optuna_exporter import OptunaExporter
from searches.tune.optuna_searcher import OptunaSearcher
from searches.tune.trial_recorder import TrialRecorder
from trainables.cluster.shared_storage import check_shared
from trainables.cluster.signals import restore_signal_handlers
from trainables.pending_workers import report_pending_workers
from trainables.torch_trainer import Group
from trainables.trial_job import TrialJob
from trainables.tune_function import train_trial
from trainables.tune_trainable import TRIAL_RESOURCES, GroupTrial

TUNE_FOLDER = "tune"
RESTARTS = 3
"""How often a trial whose process died goes on from its last checkpoint before it counts as failed."""


@contextmanager
def joined(
    sweep: Experiment, execution: ExecutionOptions, environment: Environment, console: Console
) -> Iterator[None]:
    """Be a driver of a Ray that is known to serve the sweep's trials: what an engine needs to run them.

    Raises:
        UserError: the cluster cannot be joined, or has no room for a trial, or a node does not see what the others see;
            nothing has been written.
    """
    with connect(execution, console.print):
        data = [] if sweep.run.data.source == "digits" else [environment.data]
        check_shared(environment, environment.results, data)
        fits(bundle(execution), *(execution.group or (1, 1)))
        yield


@dataclass(frozen=True, kw_only=True)
class SweepTuner:
    """What runs the trials of one sweep, on the Ray that was `joined`."""

    sweep: Experiment
    execution: ExecutionOptions
    """With workers, they train a trial together; without, a trial trains in its own process."""
    environment: Environment
    folder: Path
    """The sweep's, absolute."""
    at_each_step: Callable[[], None]
    """Called again and again while trials run, whether or not anything happens to them."""
    console: Console

    def run(self, known: Sequence[KnownTrial], warm: Sequence[KnownTrial], time_left_s: float | None) -> bool:
        """Run the trials that are left.

        Args:
            known: Every trial on record; unfinished ones go on first.
            warm: Trials of earlier sweeps, for the sampler alone.
            time_left_s: Seconds after which no trial starts or goes on; None: no limit.

        Returns:
            Whether every trial that was begun came to its end, or time did; if not, a person interrupted the sweep.

        Raises:
            StoreError: a trial could not be put on record, and the sweep was ended for that; it is to go on.
        """
        ended = [trial for trial in known if trial.state != "unfinished"]
        left = self.sweep.trials - len(ended)
        if left <= 0 or time_left_s == 0:  # to Tune, no time is no limit
            return True
        job = self._job
        ledger, study = TrialRecorder(job), OptunaSearcher(self.sweep, self.folder, known, warm)
        retention = CheckpointRetention(job, self.sweep.keep_checkpoints, self.sweep.run.schedule.epochs, ended)
        progress = SweepProgress(self.sweep, self.console, ended, time_left_s)
        with OptunaExporter(self.sweep, self.folder, known) as mirror:
            tuner = self._tuner(job, study, known, left, time_left_s)
            listeners = ledger, study, mirror, retention, progress
            heard = listening(*listeners, at_each_step=self.at_each_step)
            with progress, self._waiting_is_said(), heard, restore_signal_handlers():
                tuner.fit()
            ledger.close()
        remove([self.folder / TUNE_FOLDER])
        out_of_time = time_left_s is not None and progress.elapsed_s >= time_left_s
        return out_of_time or ledger.num_ended == left

    @property
    def _job(self) -> TrialJob:
        return TrialJob(
            sweep=self.folder,
            run=self.sweep.run,
            runs_of=self.sweep.trial_runs,
            repeats=self.sweep.repeats,
            objective=self.sweep.objective,
            score=self.sweep.scoring.score,
            costs=self.sweep.costs,
            environment=self._trials_environment,
        )

    @property
    def _trials_environment(self) -> Environment:
        """A suite that follows another finds its networks beside itself."""
        before = self.sweep.built_on
        return replace(self.environment, backbone=self.folder.parent / before.sweep) if before else self.environment

    def _tuner(
        self, job: TrialJob, study: OptunaSearcher, known: Sequence[KnownTrial], left: int, time_left_s: float | None
    ) -> tune.Tuner:
        trainable, at_once = self._trainable(job)
        return tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                num_samples=left,
                search_alg=study.searcher(),
                scheduler=to_scheduler(self.sweep.scheduler, self.sweep.run.schedule.epochs, known),
                time_budget_s=time_left_s,
                max_concurrent_trials=at_once,
                # A process that led a group cannot lead another.
                reuse_actors=self.execution.group is None,
            ),
            run_config=tune.RunConfig(
                name=TUNE_FOLDER,
                **ray_storage(self.folder),
                callbacks=[TuneCallback()],
                stop=StopOnStorageError(),
                failure_config=tune.FailureConfig(max_failures=RESTARTS),
                verbose=0,
            ),
        )

    def _waiting_is_said(self) -> AbstractContextManager[None]:
        """A trial of its own process has its place as long as the sweep lasts; a group may lose it."""
        workers = self.execution.group
        return nullcontext() if workers is None else report_pending_workers(self._group(*workers), self.console.print)

    def _group(self, fewest: int, most: int) -> Group:
        return Group(fewest=fewest, most=most, bundle=bundle(self.execution))

    def _trainable(self, job: TrialJob) -> tuple[Any, int]:
        """What trains a trial, with what it needs, and how many fit at once."""
        needed = bundle(self.execution)
        fewest, most = self.execution.group or (1, 1)
        at_once = min(fits(needed, fewest, most), self.sweep.trials)
        share = f"{needed['CPU']:g} CPU cores and {needed['GPU']:g} GPUs"
        if self.execution.group is None:
            self.console.print(f"{at_once} trials at once, {share} each")
            return tune.with_resources(tune.with_parameters(train_trial, job=job), needed), at_once
        workers = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        self.console.print(f"{at_once} trials at once, of {workers} workers, {share} each")
        trainable = tune.with_parameters(GroupTrial, job=job, group=self._group(fewest, most))
        return tune.with_resources(trainable, TRIAL_RESOURCES), at_once
