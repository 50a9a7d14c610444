"""Running the trials of a sweep: Ray Tune runs them, Optuna proposes them, callbacks record them.

A sweep starts and resumes in the same way: the sampler and the scheduler receive what is recorded, and Tune runs the
trials that remain.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from mcl_ray.callbacks import SweepCallback, notify
from mcl_ray.config.environment import Environment
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.results.remote.pull import ray_storage, remove
from searches.further_runs import FurtherRun
from searches.optuna_logging import optuna_verbosity
from searches.spec.experiment import Experiment
from searches.trial_history import KnownTrial
from searches.tune.callback import StopOnStorageError, TrialEvents, TuneCallback, receiving
from searches.tune.checkpoint_retention import CheckpointRetention
from searches.tune.inherited_variables import inherited_variables
from searches.tune.interruption import interruptible_tune
from searches.tune.listed_trials import ListedTrials
from searches.tune.optuna_exporter import OptunaExporter
from searches.tune.optuna_searcher import OptunaSearcher
from searches.tune.packs import PackLeaver, PackSetting, fastest_size, started
from searches.tune.scheduler import to_scheduler
from searches.tune.trial_recorder import TrialRecorder
from trainables.cluster.connect import bundle, fits, has_started_ray
from trainables.packed_trial import PackedTrial
from trainables.pending_workers import report_pending_workers
from trainables.torch_trainer import Group
from trainables.trial_job import TrialJob, config_of
from trainables.tune_function import train_trial
from trainables.tune_trainable import TRIAL_RESOURCES, GroupTrial

TUNE_FOLDER = "tune"
RESTARTS = 3
"""Times that a trial whose process died is restarted from its last checkpoint, before it counts as failed."""


class Training(NamedTuple):
    """The trainable of the trials of a sweep, and what it needs."""

    trainable: Any
    """Tune's trainable, with its resources."""
    concurrent: int
    """Trials that run at once."""
    callbacks: Sequence[SweepCallback] = ()
    """Callbacks that it needs."""


@dataclass(frozen=True, kw_only=True)
class SweepTuner:
    """Runs the trials of one sweep, on a Ray that is connected, see `connection.py`."""

    sweep: Experiment
    execution: ExecutionOptions
    """Options of Ray; with workers, these train a trial together, otherwise it trains in its own process."""
    environment: Environment
    """Environment of every trial."""
    folder: Path
    """Folder of the sweep, absolute."""
    callbacks: Sequence[SweepCallback] = ()
    """Callbacks that are called after those that record."""

    def run(self, known: Sequence[KnownTrial], warm: Sequence[KnownTrial], time_left_s: float | None) -> bool:
        """Run the trials that remain.

        Args:
            known: Every recorded trial; unfinished ones continue first.
            warm: Trials of earlier sweeps that lie in the space, for the sampler alone.
            time_left_s: Seconds after which no trial starts or continues; None: no limit.

        Returns:
            Whether every trial ended, or the time did; if not, the sweep was interrupted with Ctrl-C.

        Raises:
            StoreError: a trial could not be recorded, and the sweep was ended for that; it can be resumed.
        """
        ended = [trial for trial in known if trial.state != "unfinished"]
        left = self.sweep.trials - len(ended)
        if left <= 0 or time_left_s == 0:  # Tune takes 0 for no limit
            return True
        job, started = self._job, time.monotonic()
        with optuna_verbosity(optuna.logging.ERROR):
            recorder = TrialRecorder(job)
            searcher = OptunaSearcher(self.sweep, self.folder, known, warm)
            retention = CheckpointRetention(job, self._checkpoints_kept, ended, self.sweep.own_point)
            scheduler = to_scheduler(self.sweep.strategy.scheduler, self.sweep.run.schedule.epochs, known)
            with OptunaExporter(self.sweep, self.folder, known) as exporter:
                with self._training(job, left) as training:
                    tuner = self._tuner(training, searcher.searcher(), scheduler, left, time_left_s)
                    self._fit(tuner, [recorder, searcher, exporter, retention, *training.callbacks, *self.callbacks])
                out_of_time = time_left_s is not None and time.monotonic() - started >= time_left_s
                recorder.close()
        remove([self.folder / TUNE_FOLDER])
        return out_of_time or recorder.num_ended == left

    def run_further(self, runs: Sequence[FurtherRun], time_left_s: float | None) -> bool:
        """Train further runs to their ends, each as a trial of its own, which nothing stops early.

        Returns:
            Whether every run ended, or the time did; if not, the sweep was interrupted with Ctrl-C.

        Raises:
            StoreError: a run could not be recorded, and the sweep was ended for that; it can be resumed.
        """
        if not runs or time_left_s == 0:  # Tune takes 0 for no limit
            return True
        started = time.monotonic()
        job = replace(self._job, runs_of=self.sweep.seed_runs, repeats=self.sweep.num_seeds)
        recorder = TrialRecorder(job)
        listed = ListedTrials([config_of(run.info) for run in runs])
        with self._training(job, len(runs)) as training:
            scheduler = FIFOScheduler()  # type: ignore[no-untyped-call]
            self._fit(
                self._tuner(training, listed, scheduler, len(runs), time_left_s),
                [recorder, *training.callbacks, *self.callbacks],
            )
        out_of_time = time_left_s is not None and time.monotonic() - started >= time_left_s
        recorder.close()
        remove([self.folder / TUNE_FOLDER])
        return out_of_time or recorder.num_ended == len(runs)

    @property
    def _checkpoints_kept(self) -> int | None:
        """Configurations that keep their checkpoints during the trials: those that may be confirmed need theirs."""
        limit = self.sweep.outputs.keep_checkpoints
        return None if limit is None else max(limit, self.sweep.num_confirmed)

    def _fit(self, tuner: tune.Tuner, callbacks: Sequence[SweepCallback]) -> None:
        variables = inherited_variables() if has_started_ray() else nullcontext()
        with self._reporting_waits(), self._receiving(callbacks), interruptible_tune(), variables:
            tuner.fit()

    @property
    def _job(self) -> TrialJob:
        return TrialJob(
            sweep=self.folder,
            run=self.sweep.run,
            runs_of=self.sweep.trial_runs,
            repeats=self.sweep.repeats,
            objective=self.sweep.objective,
            score=self.sweep.scoring.score,
            costs=self.sweep.scoring.costs,
            environment=self.environment,
        )

    def _receiving(self, callbacks: Sequence[SweepCallback]) -> AbstractContextManager[None]:
        events = TrialEvents(callbacks, epochs=self.sweep.run.schedule.epochs, costs=self.sweep.scoring.costs)
        return receiving(self.folder.name, events)

    def _tuner(
        self,
        training: Training,
        search_alg: Searcher,
        scheduler: TrialScheduler,
        num_trials: int,
        time_left_s: float | None,
    ) -> tune.Tuner:
        return tune.Tuner(
            training.trainable,
            tune_config=tune.TuneConfig(
                num_samples=num_trials,
                search_alg=search_alg,
                scheduler=scheduler,
                time_budget_s=time_left_s,
                max_concurrent_trials=training.concurrent,
                # A process that led a group cannot lead another.
                reuse_actors=self.execution.group is None,
            ),
            run_config=tune.RunConfig(
                name=TUNE_FOLDER,
                **ray_storage(self.folder),
                callbacks=[TuneCallback(self.folder.name)],
                stop=StopOnStorageError(),
                failure_config=tune.FailureConfig(max_failures=RESTARTS),
                verbose=0,
            ),
        )

    def _reporting_waits(self) -> AbstractContextManager[None]:
        """Report workers that wait; a trial in its own process keeps its resources as long as the sweep lasts."""
        workers = self.execution.group
        if workers is None:
            return nullcontext()
        return report_pending_workers(self._group(*workers), partial(notify, self.callbacks, "on_status"))

    def _group(self, fewest: int, most: int) -> Group:
        return Group(fewest=fewest, most=most, bundle=bundle(self.execution))

    @contextmanager
    def _training(self, job: TrialJob, num_trials: int) -> Iterator[Training]:
        """Say how many trials run at once and with what, and keep what trains them besides their own processes."""
        needed = bundle(self.execution)
        fewest, most = self.execution.group or (1, 1)
        concurrent = min(fits(needed, fewest, most), self.sweep.trials)
        share = f"{needed['CPU']:g} CPU cores and {needed['GPU']:g} GPUs"
        if self.execution.group is not None:
            workers = f"{fewest}" if fewest == most else f"{fewest} to {most}"
            self._say(f"{concurrent} trials at once, of {workers} workers, {share} each")
            trainable = tune.with_parameters(GroupTrial, job=job, group=self._group(fewest, most))
            yield Training(tune.with_resources(trainable, TRIAL_RESOURCES), concurrent)
        elif (size := self._pack_size(job, needed, math.ceil(num_trials / concurrent))) == 1:
            self._say(f"{concurrent} trials at once, {share} each")
            yield Training(tune.with_resources(tune.with_parameters(train_trial, job=job), needed), concurrent)
        else:
            setting = PackSetting.of(num_trials, processes=concurrent, size=size, bundle=needed)
            self._say(f"{setting.trials} trials at once, {setting.size} in one process, {share} for each process")
            with started(setting, job) as packs:
                trainable = tune.with_resources(tune.with_parameters(PackedTrial, packs=packs), TRIAL_RESOURCES)
                yield Training(trainable, setting.trials, [PackLeaver(packs)])

    def _pack_size(self, job: TrialJob, needed: Mapping[str, float], most: int) -> int:
        """Return how many trials a process trains together; measured if the options say so, and then said."""
        size = self.execution.pack_size
        if size is None:
            size, gain = fastest_size(job, needed, most)
            found = "none are faster" if size == 1 else f"those of {size} are {gain:.2f} times as fast"
            self._say(f"joint steps of up to {most} trials, measured: {found}")
        return size

    def _say(self, message: str) -> None:
        notify(self.callbacks, "on_status", message)
