"""The writer of a sweep's record: the spec, the state and the best run.

The runs of the sweep are written by `RunWriter`s with the sweep's folder as their root.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import ClusterLostError, StoreError
from mcl_ray.results import reader, schema
from mcl_ray.results.atomic_io import (
    FolderLock,
    claim_folder,
    ensure_writable,
    remove_leftovers,
    subfolders,
    write_atomically,
)
from mcl_ray.results.provenance import Provenance
from mcl_ray.results.record_writer import RecordWriter
from mcl_ray.results.remote import pull
from mcl_ray.results.schema import SweepState

TOUCH_INTERVAL_S = 5.0
"""Seconds between updates of the recorded wall time."""


class StoredSpec(Protocol):
    """A spec that can be stored: a pydantic model, or any experiment of `searches.spec`."""

    def model_dump(self, *, mode: str = ...) -> dict[str, Any]:
        """Return the spec as plain data; with mode `json`, of types that JSON has."""


class SweepWriter(RecordWriter):
    """Writes one sweep's record, and holds the sweep's folder until it is finished or closed."""

    def __init__(self, folder: Path, lock: FolderLock, row: dict[str, Any]) -> None:
        super().__init__(folder, lock, reader.SWEEP_FILE, "sweeps", row)
        self._touched = time.monotonic()

    @classmethod
    def create(
        cls,
        root: Path,
        name: str,
        spec: StoredSpec,
        *,
        objective: str,
        mode: str,
        trials_planned: int,
        provenance: Provenance | None = None,
    ) -> SweepWriter:
        """Create a folder in `root`/sweeps, named by the sweep's name, the hash of its spec, and a serial.

        Args:
            root: The results folder.
            name: Name of the sweep; characters other than letters and digits are replaced in the folder's name.
            spec: The resolved spec.
            objective: Key of the objective, `split/metric/member`.
            mode: `max` or `min`.
            trials_planned: Trials of the whole sweep.
            provenance: Machine and code; those of this process if not given.

        Raises:
            StoreError: the folder cannot be written.
        """
        ensure_writable(root)
        content, provenance = spec.model_dump(mode="json"), provenance or Provenance()
        slug = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-")[:40] or "sweep"
        digest = hashlib.sha256(schema.to_json(content).encode()).hexdigest()[:10]
        pull.fetch(root / "sweeps", only=pull.is_of_sweep)
        folder = claim_folder(root / "sweeps", f"{slug}-{digest}", 1)
        row: dict[str, Any] = {
            "sweep_id": folder.name,
            "name": name,
            "spec": schema.to_json(content),
            "state": "running",
        }
        row |= {"objective": objective, "mode": mode, "trials_planned": trials_planned, "wall_time_s": 0.0}
        machine = {"host": provenance.host, "hardware": provenance.hardware, "code_version": provenance.code_version}
        lock = FolderLock(folder).acquire()
        writer = cls(folder, lock, row | machine | {"started_at": _next_start(root)})
        try:
            write_atomically(folder / reader.SWEEP_SPEC_FILE, reader.to_yaml(content).encode())
            writer._write_row()
            writer._uploader.push()
        except BaseException:
            writer.close()
            raise
        return writer

    @classmethod
    def resume(cls, sweep_folder: Path, spec: StoredSpec, *, trials_planned: int) -> SweepWriter:
        """Resume a sweep, finished or not, with a spec that may allow more trials or time than before.

        Raises:
            StoreError: there is no sweep, or another process writes it.
        """
        if not reader.is_sweep(sweep_folder):
            raise StoreError(f"only a sweep can be resumed, but {sweep_folder} holds no {reader.SWEEP_FILE}")
        content = spec.model_dump(mode="json")
        lock = FolderLock(sweep_folder).acquire()
        try:
            remove_leftovers(sweep_folder)
            row = reader.read_row(sweep_folder / reader.SWEEP_FILE, "sweeps")
            writer = cls(sweep_folder, lock, row | {"state": "running"})
            write_atomically(sweep_folder / reader.SWEEP_SPEC_FILE, reader.to_yaml(content).encode())
            writer._write_row(spec=schema.to_json(content), trials_planned=trials_planned)
            writer._uploader.push()
        except BaseException:
            lock.release()
            raise
        return writer

    @property
    def sweep_id(self) -> str:
        """Id of the sweep, the name of its folder."""
        return self.folder.name

    def touch(self) -> None:
        """Record the wall time every few seconds, so that a killed sweep's time counts against its limit."""
        if time.monotonic() - self._touched >= TOUCH_INTERVAL_S:
            self._touched = time.monotonic()
            self._write_row()

    def record_best(self, run_id: str, spec: RunSpec, comment: str = "") -> None:
        """Record the best run so far, and write its spec, below a comment, as a file that can be trained as it is."""
        lines = "".join(f"# {line}\n" for line in comment.splitlines())
        content = lines + reader.to_yaml(spec.model_dump(mode="json"))
        write_atomically(self.folder / reader.BEST_FILE, content.encode())
        self._write_row(best_run_id=run_id)
        self._uploader.try_to_push()

    def finish(self, state: SweepState) -> None:
        """Record how the sweep ended, and release its folder."""
        try:
            self._write_row(state=state)
            if state == "finished":
                self._uploader.push()
            else:
                self._uploader.try_to_push()
        finally:
            self.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._is_open:
            is_resumable = isinstance(error, StoreError | ClusterLostError) or not isinstance(error, Exception)
            with contextlib.suppress(StoreError):  # `error` is raised and matters more
                self.finish("interrupted" if is_resumable else "failed")
        self.close()


def _next_start(root: Path) -> datetime:
    """Return the time now, or just after the newest start on record: `latest` holds where the clock has jumped back."""
    starts = [datetime.now(UTC)]
    for folder in subfolders(root / "sweeps"):
        with contextlib.suppress(StoreError):  # another sweep's damaged record, or none yet
            newest: datetime = reader.read_row(folder / reader.SWEEP_FILE, "sweeps")["started_at"]
            starts.append(newest + timedelta(microseconds=1))
    return max(starts)
