"""Callbacks that show a run to a user while it trains: in a terminal, and in a notebook."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mcl_ray.analysis.ranking import summary
from mcl_ray.callbacks import EpochEnd, RunCallback, RunEnd, RunStart, StepEnd
from mcl_ray.errors import ClusterLostError
from mcl_ray.reports.notebook import NotebookProgressBar
from mcl_ray.reports.terminal import summary_table
from mcl_ray.results.remote.pull import display_path, fetch
from mcl_ray.results.store import read_epochs, read_runs, read_unreadable

SCORES = {"top1": "top-1", "knn_top1": "kNN top-1"}
"""Metric → its name for a user."""


class TerminalRunCallback(RunCallback):
    """Prints a run: on a terminal a bar with the time left, a line for each epoch, and a summary at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._epochs, self._last_epoch = 0, 0

    def on_status(self, message: str) -> None:
        """Print the message."""
        self._print(message)

    def on_run_start(self, start: RunStart) -> None:
        """Print which run starts; after a restart of its workers, its next attempt."""
        self._stop_bar()
        self._print(f"run {start.run_id}, attempt {start.attempt}, in {display_path(start.folder)}")
        self._epochs = start.spec.schedule.epochs
        if self._console.is_terminal:
            self._bar = _bar(self._console)
            self._bar.add_task("epoch 1", total=self._epochs)
            self._bar.start()

    def on_step(self, step: StepEnd) -> None:
        """Move the bar."""
        if self._bar:
            description = f"epoch {step.epoch}/{self._epochs}  loss {step.losses['loss']:.3f}"
            done = step.epoch - 1 + step.step / step.steps
            self._bar.update(self._bar.task_ids[0], description=description, completed=done)

    def on_epoch_end(self, epoch: EpochEnd) -> None:
        """Print the epoch's loss, accuracies and speed, once."""
        if self._last_epoch < epoch.epoch:
            self._last_epoch = epoch.epoch
            self._console.print(epoch_line(epoch, self._epochs))

    def on_run_end(self, end: RunEnd) -> None:
        """Print the summary of a finished run, or how to resume one that a user or the end of its Ray interrupted."""
        self._stop_bar()
        self._last_epoch = 0
        if isinstance(end.error, KeyboardInterrupt | ClusterLostError):
            self._print("interrupted; the same command with --resume continues after the last finished epoch")
        if end.state != "finished":
            return
        fetch(end.folder)
        self._console.print(summary_table(summary(read_runs(end.folder), read_epochs(end.folder))))
        path = display_path(end.folder)
        if unreadable := read_unreadable(end.folder):
            self._print(f"images skipped, as they do not decode: {len(unreadable)}, named in {path}/unreadable.json")
        self._print(f"figures and checkpoints: {path}")
        self._print(f"plots: {shlex.join(['python', '-m', 'mcl_ray.report', path])}")

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def _stop_bar(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None


class NotebookRunCallback(RunCallback):
    """Shows a run as a progress bar in the output of a notebook's cell."""

    def __init__(self) -> None:
        self._bar = NotebookProgressBar()
        self._run_id, self._epochs = "", 0

    def on_status(self, message: str) -> None:
        """Show the message beside the bar."""
        self._bar.update(text=message)

    def on_run_start(self, start: RunStart) -> None:
        """Show an empty bar."""
        self._run_id, self._epochs = start.run_id, start.spec.schedule.epochs
        self._bar.update(0.0, f"{start.run_id}: epoch 1/{self._epochs}")

    def on_step(self, step: StepEnd) -> None:
        """Move the bar."""
        done = (step.epoch - 1 + step.step / step.steps) / self._epochs
        self._bar.update(done, f"{self._run_id}: epoch {step.epoch}/{self._epochs}, loss {step.losses['loss']:.3f}")

    def on_epoch_end(self, epoch: EpochEnd) -> None:
        """Show the epoch's loss, accuracies and speed."""
        self._bar.update(epoch.epoch / self._epochs, f"{self._run_id}: {epoch_line(epoch, self._epochs)}")

    def on_run_end(self, end: RunEnd) -> None:
        """Show how the run ended, unless it finished, and close the bar."""
        if end.state != "finished":
            reason = f": {end.error}" if end.error is not None and str(end.error) else ""
            self._bar.update(text=f"{end.run_id}: {end.state}{reason}")
        self._bar.close()


def epoch_line(epoch: EpochEnd, epochs: int) -> str:
    """Return an epoch's loss, accuracies and speed in one line."""
    figures = {(row.split, row.metric, row.member): row.value for row in epoch.rows}
    scores = [
        _scores(figures, split, metric)
        for split in ("validation", "test")
        for metric in SCORES
        if (split, metric, "mean") in figures
    ]
    speed, loss = (figures["train", name, "cohort"] for name in ("images_per_s", "loss"))
    return "  ".join([f"epoch {epoch.epoch}/{epochs}", f"loss {loss:.4f}", *scores, f"{speed:.0f} images/s"])


def _scores(figures: Mapping[tuple[str, str, str], float], split: str, metric: str) -> str:
    mean, best, ensemble = (figures[split, metric, member] for member in ("mean", "best", "ensemble"))
    return f"{split} {SCORES[metric]} mean {mean:.2f} best {best:.2f} ensemble {ensemble:.2f} %"


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("elapsed"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )
