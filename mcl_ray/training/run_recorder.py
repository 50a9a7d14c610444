"""Callbacks that write what a run's folder holds: its record, and TensorBoard's event file beside it.

They must succeed: a run that cannot be recorded ends. How a run's end is recorded is `recorded_run.py`.
"""

from __future__ import annotations

from typing import ClassVar

from mcl_ray.callbacks import EpochEnd, RunCallback, RunEnd, RunStart
from mcl_ray.config.effects import acting
from mcl_ray.config.spec import RunSpec
from mcl_ray.results.run_writer import RunWriter
from mcl_ray.results.tensorboard import EventFile

HYPERPARAMETERS = ("method", "seed", "batch.", "cohort.", "losses.", "optimizer.", "schedule.")
"""Fields, and beginnings of fields, that TensorBoard's HParams show."""


def hyperparameters(spec: RunSpec) -> dict[str, str | float | bool]:
    """Return the fields of a run that are compared between runs, without those that have no effect; lists as text."""
    shown: dict[str, str | float | bool] = {
        f"losses.extra.{name}": weight for name, weight in spec.losses.extra.items()
    }
    for path, value in acting(spec).items():
        if path.startswith(HYPERPARAMETERS) and value is not None and not isinstance(value, dict):
            shown[path] = ", ".join(map(str, value)) if isinstance(value, list) else value
    return shown


class RunRecorder(RunCallback):
    """Writes a run's figures to its record; after each event they are on the disk."""

    must_succeed: ClassVar[bool] = True

    def __init__(self, writer: RunWriter) -> None:
        self._writer = writer

    def on_run_start(self, start: RunStart) -> None:
        """Record the images and the size of the cohort."""
        self._writer.record_dataset(start.dataset)
        self._writer.describe(parameters=start.parameters, multiply_adds=start.multiply_adds)

    def on_epoch_end(self, epoch: EpochEnd) -> None:
        """Record the figures of the epoch, and the images that did not decode.

        Raises:
            StoreError: the folder cannot be written.
        """
        self._writer.record_unreadable(epoch.unreadable)
        self._writer.record_epoch(epoch.epoch, epoch.rows)


class TensorBoardCallback(RunCallback):
    """Writes a run's figures to an event file in its folder."""

    must_succeed: ClassVar[bool] = True

    def __init__(self) -> None:
        self._file: EventFile | None = None

    def on_run_start(self, start: RunStart) -> None:
        """Prepare the attempt's event file."""
        self._file = EventFile(start.folder, hyperparameters(start.spec))

    def on_epoch_end(self, epoch: EpochEnd) -> None:
        """Write the figures of the epoch as scalars.

        Raises:
            StoreError: the folder cannot be written.
        """
        assert self._file is not None, "an epoch ends after its run has started"
        self._file.write(epoch.epoch, epoch.rows)

    def on_run_end(self, end: RunEnd) -> None:
        """Close the event file."""
        if self._file is not None:
            self._file.close()
