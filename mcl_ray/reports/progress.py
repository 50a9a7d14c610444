"""What a person sees while a run trains: a bar with the time left on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mcl_ray.config.spec import RunSpec

if TYPE_CHECKING:
    from mcl_ray.training.loop import EpochReport


class RunProgress:
    """Follows one run; `epoch` and `step` are what the training loop reports to."""

    def __init__(self, spec: RunSpec, console: Console) -> None:
        self._epochs, self._console = spec.schedule.epochs, console
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console) if console.is_terminal else None
        self._task = self._bar.add_task("epoch 1", total=self._epochs) if self._bar else None

    def __enter__(self) -> RunProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def step(self, *, epoch: int, step: int, steps: int, losses: dict[str, float]) -> None:
        """A log interval is over."""
        if self._bar and self._task is not None:
            told = f"epoch {epoch}/{self._epochs}  loss {losses['loss']:.3f}"
            self._bar.update(self._task, description=told, completed=epoch - 1 + step / steps)

    def epoch(self, epoch: EpochReport, checkpoint: Path | None) -> None:
        """An epoch is over."""
        figures = {(row.split, row.metric, row.member): row.value for row in epoch.rows}
        speed, loss = (figures["train", name, "cohort"] for name in ("images_per_s", "loss"))
        scores = [
            f"{split} {told} mean {figures[split, metric, 'mean']:.2f} best {figures[split, metric, 'best']:.2f} "
            f"ensemble {figures[split, metric, 'ensemble']:.2f} %"
            for split in ("validation", "test")
            for metric, told in (("top1", "top-1"), ("knn_top1", "kNN top-1"))
            if (split, metric, "mean") in figures
        ]
        line = [f"epoch {epoch.epoch}/{self._epochs}", f"loss {loss:.4f}", *scores, f"{speed:.0f} images/s"]
        self._console.print("  ".join(line))
