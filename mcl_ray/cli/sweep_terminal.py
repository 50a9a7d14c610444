"""The callback with which the `sweep` commands print what happens."""

from __future__ import annotations

import shlex

from rich.console import Console

from mcl_ray.callbacks import SweepCallback, SweepEnd, SweepStart, TrialEnd, TrialInfo, TrialResult
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.errors import ClusterLostError, StoreError
from mcl_ray.reports.sweep_progress import SweepProgress
from mcl_ray.reports.sweep_results import conclusion_views
from mcl_ray.results.remote.pull import display_path


class TerminalSweepCallback(SweepCallback):
    """Prints messages, the progress of trials, the result, and how an interrupted sweep is resumed."""

    def __init__(self, console: Console, execution: ExecutionOptions) -> None:
        self._console, self._execution = console, execution
        self._progress = SweepProgress(console)

    def on_status(self, message: str) -> None:
        """Print a message."""
        self._console.print(message, soft_wrap=True, highlight=False)

    def on_sweep_start(self, start: SweepStart) -> None:
        """Print the sweep's id and folder, and start the progress."""
        folder = display_path(start.folder)
        self._console.print(f"sweep {start.sweep_id}: {start.trials} trials, in {folder}", soft_wrap=True)
        self._progress.on_sweep_start(start)

    def on_trial_start(self, trial: TrialInfo) -> None:
        """Show a trial that starts."""
        self._progress.on_trial_start(trial)

    def on_trial_result(self, trial: TrialInfo, result: TrialResult) -> None:
        """Show the score of an epoch."""
        self._progress.on_trial_result(trial, result)

    def on_trial_end(self, trial: TrialInfo, end: TrialEnd) -> None:
        """Show how a trial ended."""
        self._progress.on_trial_end(trial, end)

    def on_sweep_end(self, end: SweepEnd) -> None:
        """Print the result, or the command that resumes the sweep."""
        self._progress.on_sweep_end(end)
        if end.conclusion is not None:
            for view in conclusion_views(end.conclusion):
                self._console.print(view, soft_wrap=isinstance(view, str))
        if isinstance(end.error, StoreError | ClusterLostError | KeyboardInterrupt) and end.state != "finished":
            options = self._execution.options()
            command = shlex.join(["python", "-m", "mcl_ray.sweep", "--resume", end.sweep_id, *options])
            self._console.print(f"interrupted; to resume:\n  {command}", soft_wrap=True)
