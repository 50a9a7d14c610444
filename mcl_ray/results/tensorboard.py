"""TensorBoard event files: the figures of a run's epochs once more, for those who watch it with TensorBoard.

Nothing here is ever read back; the record is what `run_writer.py` writes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from mcl_ray.errors import StoreError
from mcl_ray.results.schema import EpochRow

if TYPE_CHECKING:
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event


class Epoch(Protocol):
    """What is known of an epoch when it ends."""

    @property
    def epoch(self) -> int:
        """Epochs done, from 1."""

    @property
    def rows(self) -> Sequence[EpochRow]:
        """Its figures."""


class EventFile:
    """One attempt's event file in a run's folder, made when its first epoch is told.

    Each attempt writes a file of its own that sorts after the earlier ones, and begins with a mark by which TensorBoard
    forgets what they say of its first epoch and those after it. Not `SummaryWriter`: that writes from a thread, and its
    flush does not wait for it.
    """

    def __init__(self, folder: Path) -> None:
        import tensorboardX.event_file_writer  # noqa: F401  # before anything trains, rather than after an epoch

        self._folder = folder
        self._file: EventsWriter | None = None

    def epoch(self, epoch: Epoch, checkpoint: Path | None) -> None:
        """Write an epoch's figures as scalars at step `epoch`; on return they are on the disk. A training `Report`.

        Raises:
            StoreError: the folder cannot be written.
        """
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=_tag(row), simple_value=row.value) for row in epoch.rows]
        events = [Event(step=epoch.epoch, summary=Summary(value=values))]
        if self._file is None:
            events.insert(0, Event(step=epoch.epoch, session_log=SessionLog(status=SessionLog.START)))
        try:
            self._append(events)
        except OSError as error:
            raise StoreError(
                f"the results folder must be writable, but writing TensorBoard events in {self._folder} failed: "
                f"{error.strerror or error}"
            ) from error

    def _append(self, events: list[Event]) -> None:
        if self._file is None:
            self._file = _next_file(self._folder)
        for event in events:
            event.wall_time = time.time()
            self._file.write_event(event)
        self._file.flush()

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _next_file(folder: Path) -> EventsWriter:
    """TensorBoard reads a folder's files by name, and knows them by `tfevents` in it."""
    from tensorboardX.event_file_writer import EventsWriter

    serial = 1 + len(list(folder.glob("events-*.tfevents.*")))
    return EventsWriter(str(folder / f"events-{serial:04d}"))


def _tag(row: EpochRow) -> str:
    """TensorBoard groups its charts by what stands before the first slash."""
    whole = (row.split, row.metric) if row.member == "cohort" else (row.split, row.metric, row.member)
    return "/".join(whole)
