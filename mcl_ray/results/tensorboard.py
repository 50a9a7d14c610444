"""TensorBoard event files: a copy of the figures of a run's epochs, for TensorBoard.

They are never read back: the record is written by `run_writer.py`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mcl_ray.errors import StoreError
from mcl_ray.results.queries import ACCURACIES
from mcl_ray.results.schema import EpochRow

if TYPE_CHECKING:
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

NONE: Mapping[str, str | float | bool] = {}


class EventFile:
    """Event file of one attempt in a run's folder, created when its first epoch is written.

    Each attempt writes a file of its own that sorts after the earlier ones and begins with a session mark, by which
    TensorBoard drops the earlier files' figures from that epoch on. `SummaryWriter` is not used: it writes from a
    thread, and its flush does not wait for that thread.
    """

    def __init__(self, folder: Path, hyperparameters: Mapping[str, str | float | bool] = NONE) -> None:
        """Prepare the file; `hyperparameters` are shown by TensorBoard's HParams, beside the accuracies."""
        import tensorboardX.event_file_writer  # noqa: F401  # before anything trains, rather than after an epoch

        self._folder, self._hyperparameters = folder, hyperparameters
        self._file: EventsWriter | None = None

    def write(self, epoch: int, rows: Sequence[EpochRow]) -> None:
        """Write an epoch's figures as scalars at step `epoch`, counted from 1; on return they are on the disk.

        Raises:
            StoreError: the folder cannot be written.
        """
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=_tag(row), simple_value=row.value) for row in rows]
        events = [Event(step=epoch, summary=Summary(value=values))]
        if self._file is None:
            events.insert(0, Event(step=epoch, session_log=SessionLog(status=SessionLog.START)))
            events += [Event(step=epoch, summary=one) for one in self._session(rows)]
        try:
            self._append(events)
        except OSError as error:
            raise StoreError(
                f"the results folder must be writable, but writing TensorBoard events in {self._folder} failed: "
                f"{error.strerror or error}"
            ) from error

    def _session(self, rows: Sequence[EpochRow]) -> list[Summary]:
        """Return the experiment and the session of TensorBoard's HParams; metrics are the accuracies of these rows."""
        from tensorboardX.summary import hparams

        if not self._hyperparameters:
            return []
        metrics = {_tag(row): row.value for row in rows if row.metric in ACCURACIES}
        experiment, session, _ = hparams(dict(self._hyperparameters), metrics)
        return [experiment, session]

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
    """Create the next file: TensorBoard reads those of a folder whose names hold `tfevents`, in the order of names."""
    from tensorboardX.event_file_writer import EventsWriter

    serial = 1 + len(list(folder.glob("events-*.tfevents.*")))
    return EventsWriter(str(folder / f"events-{serial:04d}"))


def _tag(row: EpochRow) -> str:
    """Return the tag of a figure: TensorBoard groups charts by the part before the first slash."""
    whole = (row.split, row.metric) if row.member == "cohort" else (row.split, row.metric, row.member)
    return "/".join(whole)
