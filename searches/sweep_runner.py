"""A sweep from start to end: checked, run, ranked and reported, with an event for everything that happens."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from mcl_ray.analysis.conclusion import SweepConclusion
from mcl_ray.callbacks import SweepCallback, SweepEnd, SweepStart, notify
from mcl_ray.config.environment import Environment
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.config.plugins import import_plugins
from mcl_ray.data.dataset import Dataset
from mcl_ray.data.source import dataset_for
from mcl_ray.results.atomic_io import FolderLock
from mcl_ray.results.remote import pull
from mcl_ray.results.schema import SweepState
from mcl_ray.results.store import (
    SweepWriter,
    ensure_writable,
    open_results,
    wait_for_orphans,
)
from mcl_ray.results.warm_start import write_warm_start
from searches.further_runs import further_runs
from searches.kinds import behaviour_of
from searches.linear_eval import started_on
from searches.preflight import check_batches, check_proposals, check_results, check_study
from searches.record_caching import RecordCaching
from searches.resumption import Change, Resumption, has_failed_runs, plan_resumption, unchanged
from searches.spec.experiment import Experiment
from searches.spec.fields import without_effect
from searches.sweep_recorder import SweepRecorder
from searches.trial_history import KnownTrial, read_trials
from searches.warm_start import check_taken, find_earlier, read_earlier


@dataclass(frozen=True, kw_only=True)
class SweepRunner:
    """Starts and resumes sweeps."""

    execution: ExecutionOptions
    """Options of Ray; with workers, these train each trial together, otherwise it trains in its own process."""
    callbacks: Sequence[SweepCallback] = ()
    """Callbacks of every sweep that is run, also of one that follows another."""
    download: bool = False
    """Download the data set if it is missing."""

    @property
    def environment(self) -> Environment:
        """Environment of every trial."""
        return self.execution.environment(download=self.download)

    @property
    def _driver_environment(self) -> Environment:
        """Environment of this process, which may be on a node without the trials' devices."""
        return (
            self.environment if self.execution.address is None else dataclasses.replace(self.environment, device="auto")
        )

    def start(self, experiment: Experiment) -> list[Path]:
        """Run a new sweep, and the one that follows it, if there is one.

        Returns:
            The folders of the sweeps that were run.

        Raises:
            UserError: the data, the results folder, the study's database or the cluster cannot be used; nothing has
                been written.
            TrainingError: no trial has a score.
            KeyboardInterrupt: the sweep was interrupted; it can be resumed.
        """
        self.execution.check()
        import_plugins(experiment.plugins)
        open_results(self.environment)
        check_taken(read_earlier(experiment, self.environment))
        dataset = self._check_data(experiment, trains=True)
        for path in without_effect(experiment.space):
            self._report(f"{path} has no effect with the other values of this search, and is not searched")
        ensure_writable(self.environment.results)
        with ExitStack() as ray:
            self._connect(ray, experiment)
            from mcl_ray.training.recorded_run import machine_provenance

            writer = SweepWriter.create(
                self.environment.results,
                experiment.name,
                experiment,
                objective=experiment.objective,
                mode="max",
                trials_planned=experiment.trials,
                provenance=machine_provenance(self._driver_environment),
            )
            self._run(experiment, dataset, writer, ray, experiment.strategy.time_limit_s)
        return [writer.folder, *self._follow(experiment, writer.folder)]

    def resume(self, sweep_id: str, change: Change = unchanged, *, retry_failed: bool = False) -> list[Path]:
        """Resume a sweep that was interrupted or killed, or that is to run more trials.

        Args:
            sweep_id: Id of the sweep, or `latest`.
            change: Returns the experiment from now on; it may raise the fields that are `extensible`.
            retry_failed: Try failed trials and seeds again, also those of the sweeps that follow.

        Returns:
            The folders of the sweep and of the ones that follow it.

        Raises:
            StoreError: there is no such sweep, or another process runs it.
            SpecError: the change is not allowed, the workers are too many for a batch, or trials remain but no time.
            UserError: the cluster cannot be used; the sweep's record is unchanged.
            TrainingError: no trial has a score.
            KeyboardInterrupt: the sweep was interrupted again.
        """
        resumption = self.plan(sweep_id, change, retry_failed=retry_failed)
        folder, experiment = resumption.folder, resumption.experiment
        if resumption.nothing_left:
            self._report(f"nothing left to do: {pull.display_path(folder)} is finished")
        else:
            self._resume(resumption)
        return [folder, *self._follow(experiment, folder, retry_failed=retry_failed)]

    def plan(self, sweep_id: str, change: Change = unchanged, *, retry_failed: bool = False) -> Resumption:
        """Return what resuming a sweep will do; see `resume`."""
        if self.environment.store is not None:
            open_results(self.environment)
        folder = self._find(sweep_id)
        failed = retry_failed and any(map(self._has_failed_runs, started_on(folder)))
        return plan_resumption(folder, change, retry_failed=retry_failed, follower_failed=failed)

    def _resume(self, resumption: Resumption) -> None:
        folder, experiment = resumption.folder, resumption.experiment
        self.execution.check()
        with FolderLock(folder):
            pass  # checked before waiting for Ray, and again afterwards
        dataset = self._check_data(experiment, trains=resumption.trains)
        with ExitStack() as ray:
            if resumption.out_of_time:
                self._report(f"its {experiment.strategy.time_limit_s:g} s are spent: no trial continues")
            elif resumption.trains:
                self._connect(ray, experiment)
            with SweepWriter.resume(folder, experiment, trials_planned=experiment.trials) as writer:
                if not resumption.trains:
                    writer.stop_clock()
                wait_for_orphans(folder)
                if resumption.retried_text:
                    resumption.take_up_failed()
                    self._report(f"trying {resumption.retried_text} of {folder.name} again")
                self._run(experiment, dataset, writer, ray, resumption.time_left_s)

    def _check_data(self, experiment: Experiment, *, trains: bool) -> Dataset:
        """Return the data set, after checks of it, of the results folder, the study's database and frozen networks."""
        check_results(self.environment.results)
        dataset = dataset_for(experiment.run, self.environment)
        check_batches(experiment, dataset, self.execution)
        check_study(experiment)
        if trains:
            check_proposals(experiment)
            behaviour_of(experiment).check_networks(experiment, self.environment.results)
        return dataset

    def _find(self, sweep_id: str) -> Path:
        return find_earlier(self.environment, sweep_id)

    def _has_failed_runs(self, sweep_id: str) -> bool:
        return has_failed_runs(self._find(sweep_id))

    def _connect(self, ray: ExitStack, experiment: Experiment) -> None:
        """Connect to a Ray that can run the sweep, until `ray` is closed."""
        self._report(self.execution.ray)
        from searches.tune.connection import connected

        ray.enter_context(connected(experiment, self.execution, self.environment, self.callbacks))

    def _run(
        self, experiment: Experiment, dataset: Dataset, writer: SweepWriter, ray: ExitStack, time_left_s: float | None
    ) -> None:
        """Run the trials that remain, leave Ray, and conclude; send the start and the end of the sweep."""
        known = read_trials(writer.folder, experiment)
        notify(self.callbacks, "on_sweep_start", _start_event(experiment, writer, known, time_left_s))
        progress = _Progress()
        try:
            with writer:
                with ray:
                    self._run_trials(experiment, writer, known, time_left_s)
                writer.stop_clock()  # concluding does not count against the time limit
                progress.conclusion = self._rank(experiment, writer)
                progress.conclusion = self._conclude(experiment, progress.conclusion, dataset, writer)
        except BaseException as error:
            progress.error = error
            raise
        finally:
            end = SweepEnd(
                sweep_id=writer.sweep_id,
                folder=writer.folder,
                state=cast("SweepState", writer.state),
                error=progress.error,
                conclusion=progress.conclusion,
            )
            notify(self.callbacks, "on_sweep_end", end)

    def _run_trials(
        self, experiment: Experiment, writer: SweepWriter, known: Sequence[KnownTrial], time_left_s: float | None
    ) -> None:
        from searches.tune.tuner import SweepTuner

        tuner = SweepTuner(
            sweep=experiment,
            execution=self.execution,
            environment=behaviour_of(experiment).trial_environment(experiment, self.environment),
            folder=writer.folder.resolve(),
            callbacks=[
                SweepRecorder(writer),
                RecordCaching(writer.folder.resolve(), experiment.repeats),
                *self.callbacks,
            ],
        )
        started = time.monotonic()
        warm = self._start_warm(experiment, writer.folder)
        if not tuner.run(known, warm, time_left_s):
            raise KeyboardInterrupt
        further = further_runs(writer.folder, experiment, read_trials(writer.folder, experiment))
        if time_left_s is not None:
            time_left_s = max(0.0, time_left_s - (time.monotonic() - started))
        if further and time_left_s != 0:
            self._report(f"confirming: {len(further)} further runs train to their ends")
        if not tuner.run_further(further, time_left_s):
            raise KeyboardInterrupt

    def _start_warm(self, experiment: Experiment, folder: Path) -> list[KnownTrial]:
        """Return the trials of earlier sweeps that the sampler learns from; report and record how many these are."""
        found = read_earlier(experiment, self.environment)
        for earlier in found:
            self._report(f"warm start: {earlier.summary}")
        if found:
            pull.try_to_push([write_warm_start(folder, [earlier.summary for earlier in found])])
        return [trial for earlier in found for trial in earlier.taken]

    def _rank(self, experiment: Experiment, writer: SweepWriter) -> SweepConclusion:
        from searches.conclude import rank

        return rank(experiment, writer.folder)

    def _conclude(
        self, experiment: Experiment, ranked: SweepConclusion, dataset: Dataset, writer: SweepWriter
    ) -> SweepConclusion:
        self._report("concluding: test scores and report")
        environment = self._driver_environment
        return behaviour_of(experiment).conclude(experiment, ranked, dataset, environment, writer)

    def _follow(self, experiment: Experiment, folder: Path, *, retry_failed: bool = False) -> list[Path]:
        """Start or resume what follows a sweep that is finished, and return the folders."""
        following = behaviour_of(experiment).following(experiment, folder)
        if following is None:
            return []
        if following.missing:
            rows = ", ".join(following.missing)
            self._report(f"left out of what follows, for want of finished seeds with checkpoints: {rows}")
        retried = {own: retry_failed and self._has_failed_runs(own) for own in following.sweep_ids}
        folders = [path for own, again in retried.items() for path in self.resume(own, retry_failed=again)]
        return folders + (self.start(following.new) if following.new is not None else [])

    def _report(self, message: str) -> None:
        notify(self.callbacks, "on_status", message)


@dataclass
class _Progress:
    """Result or error of a sweep, for the event of its end."""

    conclusion: SweepConclusion | None = None
    error: BaseException | None = None


def _start_event(
    experiment: Experiment, writer: SweepWriter, known: Sequence[KnownTrial], time_left_s: float | None
) -> SweepStart:
    return SweepStart(
        sweep_id=writer.sweep_id,
        folder=writer.folder,
        name=experiment.name,
        objective=experiment.objective,
        searched=tuple(experiment.space),
        score=experiment.scoring.score,
        trials=experiment.trials,
        epochs=experiment.run.schedule.epochs,
        time_left_s=time_left_s,
        earlier=[(trial.info, trial.end) for trial in known if trial.state != "unfinished"],
    )
