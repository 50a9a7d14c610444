"""The base of the writers of runs and sweeps: a folder, its lock, and a one-row record.

The columns are in `schema.py`; `run_writer.py` and `sweep_writer.py` fill them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from mcl_ray.results import schema
from mcl_ray.results.atomic_io import FolderLock, write_atomically
from mcl_ray.results.remote.push import Uploader


class RecordWriter:
    """Writes the one-row record of a folder, and holds the folder's lock until it is finished or closed."""

    def __init__(self, folder: Path, lock: FolderLock, file_name: str, kind: schema.Kind, row: dict[str, Any]) -> None:
        self.folder, self._lock, self._row = folder, lock, row
        self._path, self._kind = folder / file_name, kind
        self._uploader = Uploader(folder)
        self._earlier_s = float(row["wall_time_s"])
        self._started: float | None = time.monotonic()

    def _write_row(self, **changes: object) -> None:
        assert self._lock.held, f"the writer of {self.folder} is closed"
        self.check_in_place()
        row = self._row | changes | {"wall_time_s": self.wall_time_s}
        write_atomically(self._path, schema.to_parquet(schema.table(self._kind, [row])))
        self._row = row  # only after the write succeeded

    def check_in_place(self) -> None:
        """Check that the folder was neither renamed nor removed.

        Raises:
            StoreError: it was.
        """
        self._lock.check_in_place()

    @property
    def wall_time_s(self) -> float:
        """Seconds of all attempts, each counted from the acquisition of the folder; paused time is excluded."""
        return self._earlier_s + (0.0 if self._started is None else time.monotonic() - self._started)

    def stop_clock(self) -> None:
        """Stop counting time."""
        self._earlier_s, self._started = self.wall_time_s, None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time of this context, in which the process works on another run."""
        start = time.monotonic()
        try:
            yield
        finally:
            if self._started is not None:
                self._started += time.monotonic() - start

    @property
    def state(self) -> str:
        """State of the record, `running` until it is finished."""
        return str(self._row["state"])

    @property
    def _is_open(self) -> bool:
        """True until an end is recorded; a writer whose end could not be written is closed, too."""
        return self._lock.held and self.state == "running"

    def close(self) -> None:
        """Release the folder without recording a state: a record in state `running` then reads as interrupted."""
        self.stop_clock()
        self._lock.release()

    def __enter__(self) -> Self:
        return self
