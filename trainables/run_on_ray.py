"""A run that a group trains, seen from the terminal where it was started: as any run is, by what it puts on record."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console

from mcl_ray.config.environment import Environment
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import MclError, StoreError
from mcl_ray.reports.progress import RunProgress
from mcl_ray.results.remote.pull import display_path, fetch
from mcl_ray.results.schema import RunState
from mcl_ray.results.store import EpochRow, RunWriter, is_run, read_epochs, read_runs
from mcl_ray.training.loop import EpochReport
from trainables.cluster.connect import bundle, connect, fits
from trainables.cluster.shared_storage import check_shared
from trainables.cluster.signals import interruptible
from trainables.pending_workers import waiting_is_said
from trainables.torch_trainer import RAY_FOLDER, Group
from trainables.train_worker import train_run

LOOKS_EVERY_S = 0.5


def train_on_ray(
    spec: RunSpec,
    execution: ExecutionOptions,
    environment: Environment,
    folder: Path | None,
    console: Console,
) -> Path:
    """Train a run in a group of its own, and show its epochs.

    Args:
        spec: What to train.
        execution: Where; which Ray, and how many workers.
        environment: Of each worker; its paths are absolute.
        folder: Of a run to go on with; None begins one.
        console: Where the epochs are display_path.

    Returns:
        The run's folder.

    Raises:
        UserError: the cluster cannot be joined, or has no room, or a node does not see what the others see; nothing
            has been written.
        TrainingError: the run cannot go on; recorded as failed.
        KeyboardInterrupt: of a person; recorded as interrupted.
    """
    fewest, most = execution.group or (1, 1)
    with connect(execution, console):
        group = Group(fewest=fewest, most=most, bundle=bundle(execution))
        fits(group.bundle, fewest, most)
        files = [environment.backbone] if environment.backbone else []
        check_shared(
            environment, environment.results, [*files, *([] if spec.data.source == "digits" else [environment.data])]
        )
        if folder is None:
            folder = RunWriter.claim(environment.results, spec)
        console.print(f"run {folder.name}, {group}, in {display_path(folder)}", soft_wrap=True)
        train_in_group(spec, environment, group, folder, console)
    return folder


def train_in_group(spec: RunSpec, environment: Environment, group: Group, folder: Path, console: Console) -> None:
    """Train the run in `folder`, which is claimed or was begun before, and show its epochs.

    Args:
        spec: What to train.
        environment: Where; its paths are absolute, and every node sees them.
        group: Who trains.
        folder: The run's.
        console: Where the epochs are display_path.

    Raises:
        MclError: the run cannot go on; recorded as failed.
        KeyboardInterrupt: of a person; recorded as interrupted.
    """
    try:
        with (
            RunProgress(spec, console) as progress,
            _following(folder, progress),
            waiting_is_said(group, console),
            interruptible(),
        ):
            group.train(partial(train_run, spec, environment, folder), folder, folder.name)
    except MclError as error:
        _record(folder, spec, error)
        raise
    except KeyboardInterrupt as stop:
        _record(folder, spec, stop)
        raise
    finally:
        with contextlib.suppress(OSError):
            (folder / RAY_FOLDER).rmdir()


def _record(folder: Path, spec: RunSpec, error: BaseException) -> None:
    """Put on record how the run ended, which a worker that was killed could not."""
    goes_on = isinstance(error, StoreError) or not isinstance(error, MclError)
    state: RunState = "interrupted" if goes_on else "failed"
    fetch(folder)
    (row,) = read_runs(folder).to_pylist() if is_run(folder) else [{}]
    if (row.get("state"), row.get("error_type")) == (state, type(error).__name__):
        return
    with contextlib.suppress(StoreError):  # the error itself matters more
        RunWriter.begin(folder.parents[1], folder.name, spec).finish(state, error)


@contextmanager
def _following(folder: Path, progress: RunProgress) -> Iterator[None]:
    """Show what is put on record from now on."""
    (row,) = read_runs(folder).to_pylist() if is_run(folder) else [{"attempt": 0}]
    follower = _Follower(folder, row["attempt"], progress)
    follower.start()
    try:
        yield
    finally:
        follower.over.set()
        follower.join()


class _Follower(threading.Thread):
    """Looks at a run's record until it is told that it is over, and then once more."""

    def __init__(self, folder: Path, last_attempt: int, progress: RunProgress) -> None:
        super().__init__(daemon=True)
        self._folder, self._last_attempt, self._progress = folder, last_attempt, progress
        self._shown = 0
        self.over = threading.Event()

    def run(self) -> None:
        is_over = False
        while not is_over:
            is_over = self.over.wait(LOOKS_EVERY_S)
            with contextlib.suppress(StoreError):  # a network's file system may lose a file that is being replaced
                self._show()

    def _show(self) -> None:
        fetch(self._folder)
        rows = read_epochs(self._folder).to_pylist() if is_run(self._folder) else []
        new = [row for row in rows if row["attempt"] > self._last_attempt and row["epoch"] > self._shown]
        for epoch in sorted({row["epoch"] for row in new}):
            figures = [EpochRow(*(row[name] for name in EpochRow._fields)) for row in new if row["epoch"] == epoch]
            self._progress.epoch(EpochReport(epoch=epoch, rows=figures), None)
            losses = {row.metric: row.value for row in figures if row.split == "train"}
            self._progress.step(epoch=epoch, step=1, steps=1, losses=losses)
            self._shown = epoch
