"""What the writers of runs and of sweeps share: a folder, its lock, and a record of one row.

The columns are `schema.py`; who fills them is `run_writer.py` and `sweep_writer.py`.
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
    """Owns a folder and the one-row file in it, until it is finished or closed."""

    def __init__(self, folder: Path, lock: FolderLock, file_name: str, kind: schema.Kind, row: dict[str, Any]) -> None:
        self.folder, self._lock, self._row = folder, lock, row
        self._path, self._kind = folder / file_name, kind
        self._pushes = Uploader(folder)
        self._earlier_s = float(row["wall_time_s"])
        self._started: float | None = time.monotonic()

    def _write_row(self, **changes: object) -> None:
        assert self._lock.held, f"{self.folder} was given back and cannot be written"
        row = self._row | changes | {"wall_time_s": self.wall_time_s}
        write_atomically(self._path, schema.to_parquet(schema.table(self._kind, [row])))
        self._row = row  # what is not on record is not so

    @property
    def wall_time_s(self) -> float:
        """Over all attempts, each from when it took the folder, so with what its process has to load; without rests."""
        return self._earlier_s + (0.0 if self._started is None else time.monotonic() - self._started)

    def stop_clock(self) -> None:
        """From here on no time counts."""
        self._earlier_s, self._started = self.wall_time_s, None

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Time that does not count: somebody else's turn."""
        began = time.monotonic()
        try:
            yield
        finally:
            if self._started is not None:
                self._started += time.monotonic() - began

    @property
    def state(self) -> str:
        """How the record stands."""
        return str(self._row["state"])

    @property
    def _is_to_end(self) -> bool:
        """Whether nobody has said how it ended; an end that could not be written has given the folder back."""
        return self._lock.held and self.state == "running"

    def close(self) -> None:
        """Gives the folder back without a word about the state: one that runs then reads as interrupted."""
        self.stop_clock()
        self._lock.release()

    def __enter__(self) -> Self:
        return self
