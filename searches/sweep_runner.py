"""A sweep from beginning to end: checked, run, ranked and reported; a search is scored once on the test split.

What is run is a search or a suite.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from pathlib import Path

from rich.console import Console

from mcl_ray.config.environment import Environment
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.data.dataset import Dataset
from mcl_ray.data.source import dataset_for
from mcl_ray.errors import SpecError, StoreError
from mcl_ray.results.atomic_io import FolderLock
from mcl_ray.results.remote import pull
from mcl_ray.results.store import (
    RunWriter,
    SweepWriter,
    ensure_writable,
    find_sweep,
    open_results,
    read_sweeps,
    state_of,
    wait_for_orphans,
)
from searches.preflight import check_batches, check_comparable, check_study
from searches.spec.difference import difference, only_adds
from searches.spec.experiment import Experiment, stored
from searches.spec.suite import SuiteSpec
from searches.trial_history import KnownTrial, read_trials


@dataclass(frozen=True)
class SweepRunner:
    """Where and with what sweeps are run."""

    execution: ExecutionOptions
    """With workers: so many train each trial; without, each trains in its own process."""
    console: Console
    download: bool = False
    """Fetch the data set where it is missing."""

    @property
    def environment(self) -> Environment:
        """Of every trial."""
        return self.execution.environment(download=self.download)

    @property
    def _driver_environment(self) -> Environment:
        """Of this process, which may be on a node without the trials' devices."""
        return self.environment if self.execution.address is None else replace_fields(self.environment, device="auto")

    @property
    def _most_workers(self) -> int:
        """That may share a batch."""
        return self.execution.group[1] if self.execution.group else 1

    def start(self, sweep: Experiment) -> None:
        """Run a new sweep.

        Raises:
            UserError: the data, the results folder, the study's database or the cluster cannot serve; nothing has been
                written.
        """
        self.execution.check()
        open_results(self.environment)
        dataset = self._checked_data(sweep, trains=True)
        self._warm_trials(sweep)
        ensure_writable(self.environment.results)
        from mcl_ray.training.recorded_run import machine_provenance

        with ExitStack() as ray:
            self._join(ray, sweep)
            writer = SweepWriter.create(
                self.environment.results,
                sweep.name,
                sweep,
                objective=sweep.objective,
                mode="max",
                trials_planned=sweep.trials,
                facts=machine_provenance(self._driver_environment),
            )
            self._run(sweep, dataset, writer, ray, sweep.time_limit_s)

    def resume(
        self,
        sweep_id: str,
        change: Callable[[Experiment], Experiment] = lambda sweep: sweep,
        *,
        retry: bool = False,
        dry_run: bool = False,
    ) -> None:
        """Go on with a sweep that was interrupted, killed, or is now asked for more.

        Args:
            sweep_id: Its id, or `latest`.
            change: What the sweep is to be from now on, made of what it was: it may add trials, time and checkpoints
                that stay.
            retry: Failed trials are unfinished again.
            dry_run: Only print what it would do.

        Raises:
            StoreError: there is no such sweep, it is finished and asked for no more, or another process runs it.
            SpecError: the change does more than add, the workers are more than a batch can feed, or trials are left but
                no time.
            UserError: the cluster cannot serve; the sweep's record is as it was.
        """
        folder = self._open(sweep_id)
        (row,) = read_sweeps(folder).to_pylist()
        before = stored(row["spec"])
        sweep = self._changed(folder, before, change)
        failed = [trial for trial in read_trials(folder, before) if trial.state == "failed"]
        if retry and not failed:
            raise StoreError(f"only failed trials can be tried again, but {folder.name} has none")
        left = self._left(folder, sweep) + (len(failed) if retry else 0)
        left_s = None if sweep.time_limit_s is None else max(0.0, sweep.time_limit_s - row["wall_time_s"])
        concludes_only = left_s == 0 and row["state"] != "finished" and sweep == before and not retry
        if left and left_s == 0 and not concludes_only:
            raise _no_time(folder.name, sweep, row["wall_time_s"])
        if dry_run:
            self.print_plan(sweep)
            follows = "" if sweep.then is None else "; what follows it is begun then, or goes on"
            self.console.print(f"{folder.name} goes on: {left} of {sweep.trials} trials are left{follows}")
            return
        if row["state"] == "finished" and sweep == before and not left:
            self.console.print(f"nothing left to do: {pull.display_path(folder)} is finished", soft_wrap=True)
            self._follow(sweep, folder)
            return
        self.execution.check()
        with FolderLock(folder):
            pass  # nobody runs it: asked before a Ray is waited for, and again after it
        dataset = self._checked_data(sweep, trains=left > 0 and not concludes_only)
        with ExitStack() as ray:
            if concludes_only:
                self.console.print(f"its {sweep.time_limit_s:g} s are spent: no trial goes on")
            elif left:
                self._join(ray, sweep)
            with SweepWriter.resume(folder, sweep, trials_planned=sweep.trials) as writer:
                if concludes_only or not left:
                    writer.stop_clock()
                wait_for_orphans(folder)
                if retry:
                    self._take_up_again(folder, failed)
                self._run(sweep, dataset, writer, ray, left_s)

    def _changed(self, folder: Path, before: Experiment, change: Callable[[Experiment], Experiment]) -> Experiment:
        """What a sweep is to be from now on, known to add to what it was, if it is another."""
        sweep = change(before)
        if not only_adds(before, sweep):
            told = "\n".join(f"  {line}" for line in difference(before, sweep))
            self.console.print(f"{folder.name} as it was, and as it is asked for:\n{told}", soft_wrap=True)
            raise SpecError(
                "a sweep that goes on keeps its spec, or adds trials, time or checkpoints that stay, but other fields "
                "differ"
            )
        return sweep

    def _checked_data(self, sweep: Experiment, *, trains: bool) -> Dataset:
        """The data set, known to serve the sweep, as its database and the networks that its trials build on are."""
        dataset = dataset_for(sweep.run, self.environment)
        check_batches(sweep, dataset, self._most_workers)
        check_study(sweep)
        if trains and isinstance(sweep, SuiteSpec):
            from searches.linear_eval import check_foundation

            check_foundation(sweep, self.environment.results)
        return dataset

    def _open(self, sweep_id: str) -> Path:
        """The folder of a sweep that is to go on, with its records as the store has them, if there is one."""
        if self.environment.store is not None:
            open_results(self.environment)
        return self._find(sweep_id)

    def _find(self, sweep_id: str) -> Path:
        results = self.environment.results
        pull.fetch(results / "sweeps", only=pull.is_of_sweep)
        folder = find_sweep(results, sweep_id)
        pull.fetch(folder)
        return folder

    def print_plan(self, sweep: Experiment) -> None:
        """Print the resolved search or suite and what it would do."""
        from searches.dry_run import print_sweep_plan
        from searches.suite_dry_run import print_suite_plan

        if isinstance(sweep, SuiteSpec):
            print_suite_plan(sweep, self.execution, self.console)
        else:
            print_sweep_plan(sweep, self.execution, self.console)

    def _left(self, folder: Path, sweep: Experiment) -> int:
        """How many trials are left to run."""
        return sweep.trials - sum(trial.state != "unfinished" for trial in read_trials(folder, sweep))

    def _take_up_again(self, folder: Path, failed: Sequence[KnownTrial]) -> None:
        for run in (folder / "runs" / run_id for trial in failed for run_id in trial.run_ids):
            if state_of(run) == "failed":
                RunWriter.amend(run).finish("interrupted")
        self.console.print(f"trying {len(failed)} failed trials of {folder.name} again")

    def _warm_trials(self, sweep: Experiment) -> list[KnownTrial]:
        """The trials of the sweeps that this one starts warm from.

        Raises:
            SpecError: their scores do not mean what this sweep's mean.
        """
        trials: list[KnownTrial] = []
        for earlier in sweep.warm_start:
            folder = self._find(earlier)
            (row,) = read_sweeps(folder).to_pylist()
            before = stored(row["spec"])
            check_comparable(sweep, before, folder.name)
            trials += read_trials(folder, before)
        return trials

    def _join(self, ray: ExitStack, sweep: Experiment) -> None:
        """Join a Ray that can serve the sweep, until `ray` is closed."""
        self.console.print(self.execution.ray)
        from searches.tune.tuner import joined

        ray.enter_context(joined(sweep, self.execution, self.environment, self.console))

    def _run(
        self, sweep: Experiment, dataset: Dataset, writer: SweepWriter, ray: ExitStack, left_s: float | None
    ) -> None:
        """Run the trials that are left; then leave Ray, which `ray` joined if there are any, and conclude.

        Concluding is no time of the search's.
        """
        self.console.print(
            f"sweep {writer.sweep_id}: {sweep.trials} trials, in {pull.display_path(writer.folder)}", soft_wrap=True
        )
        known = read_trials(writer.folder, sweep)
        from searches.conclude import conclude
        from searches.conclude_suite import conclude_suite
        from searches.tune.tuner import SweepTuner

        engine = SweepTuner(
            sweep=sweep,
            execution=self.execution,
            environment=self.environment,
            folder=writer.folder.resolve(),
            at_each_step=writer.touch,
            console=self.console,
        )
        with writer:
            try:
                with ray:
                    if not engine.run(known, self._warm_trials(sweep), left_s):
                        raise KeyboardInterrupt
                writer.stop_clock()
                if isinstance(sweep, SuiteSpec):
                    conclude_suite(sweep, writer, self.console)
                else:
                    conclude(sweep, dataset, self._driver_environment, writer, self.console)
            except (StoreError, KeyboardInterrupt):
                if writer.state != "finished":  # all but the report
                    self._hint_at_resume(writer.sweep_id)
                raise
        self._follow(sweep, writer.folder)

    def _follow(self, sweep: Experiment, folder: Path) -> None:
        """Begin or go on with the suite that follows the one that is finished in `folder`, if one does."""
        if not isinstance(sweep, SuiteSpec) or sweep.then is None:
            return
        from searches.linear_eval import begun, follower

        following = follower(sweep, folder)
        missing = [row for row in sweep.rows if row not in following.rows]
        if missing:
            told = "left out of what follows, for want of finished seeds with checkpoints"
            self.console.print(f"{told}: {', '.join(missing)}", soft_wrap=True)
        sweep_ids, rest = begun(following, self.environment.results)
        for sweep_id in sweep_ids:
            self.resume(sweep_id)
        if rest is not None:
            self.start(rest)

    def _hint_at_resume(self, sweep_id: str) -> None:
        """Say what to type to go on as now."""
        command = shlex.join(["python", "-m", "mcl_ray.sweep", "--resume", sweep_id, *self.execution.options()])
        self.console.print(f"interrupted; to go on:\n  {command}", soft_wrap=True)


def _no_time(name: str, sweep: Experiment, spent_s: float) -> SpecError:
    command = f"python -m mcl_ray.sweep --resume {name} time_limit_s=SECONDS"
    return SpecError(
        f"trials go on while time_limit_s is above the time they took, but {name} has time_limit_s="
        f"{sweep.time_limit_s:g} and took {spent_s:.0f} s; `{command}` gives it more"
    )
