"""Writing a sweep's record: what was searched, how it stands, which run is best.

The sweep's runs are written by `RunWriter`s that take the sweep's folder as their root.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import StoreError
from mcl_ray.results import reader, schema
from mcl_ray.results.atomic_io import FolderLock, claim_folder, ensure_writable, remove_leftovers, write_atomically
from mcl_ray.results.provenance import Provenance
from mcl_ray.results.record_writer import RecordWriter
from mcl_ray.results.remote import pull
from mcl_ray.results.schema import SweepState

TOUCHES_EVERY_S = 5.0


class SpecData(Protocol):
    """A pydantic model, as far as a record needs it."""

    def model_dump(self, *, mode: str = ...) -> dict[str, Any]:
        """Return the spec as plain data."""


class SweepWriter(RecordWriter):
    """Writes one sweep's record, and holds the sweep's folder; its runs are written by `RunWriter`s in that folder."""

    def __init__(self, folder: Path, lock: FolderLock, row: dict[str, Any]) -> None:
        super().__init__(folder, lock, reader.SWEEP_FILE, "sweeps", row)
        self._touched = time.monotonic()

    @classmethod
    def create(
        cls,
        root: Path,
        name: str,
        spec: SpecData,
        *,
        objective: str,
        mode: str,
        trials_planned: int,
        facts: Provenance | None = None,
    ) -> SweepWriter:
        """Claims a folder in `root`/sweeps, named by the sweep's name, the hash of its spec, and a serial.

        Raises:
            StoreError: the folder cannot be written.
        """
        ensure_writable(root)
        content, facts = spec.model_dump(mode="json"), facts or Provenance()
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
        machine = {"host": facts.host, "hardware": facts.hardware, "code_version": facts.code_version}
        lock = FolderLock(folder).acquire()
        writer = cls(folder, lock, row | machine | {"started_at": datetime.now(UTC)})
        try:
            write_atomically(folder / reader.SWEEP_SPEC_FILE, reader.to_yaml(content).encode())
            writer._write_row()
            writer._pushes.push()
        except BaseException:
            writer.close()
            raise
        return writer

    @classmethod
    def resume(cls, sweep_folder: Path, spec: SpecData, *, trials_planned: int) -> SweepWriter:
        """Goes on with a sweep, finished or not, whose spec may have been given more trials or time.

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
            writer._pushes.push()
        except BaseException:
            lock.release()
            raise
        return writer

    @property
    def sweep_id(self) -> str:
        """The folder's name."""
        return self.folder.name

    def touch(self) -> None:
        """Records the time spent so far, now and then: what a killed sweep spent counts against its limit."""
        if time.monotonic() - self._touched >= TOUCHES_EVERY_S:
            self._touched = time.monotonic()
            self._write_row()

    def record_best(self, run_id: str, spec: RunSpec) -> None:
        """Keeps the best run so far, and its spec as a file that can be trained as it is."""
        write_atomically(self.folder / reader.BEST_FILE, reader.to_yaml(spec.model_dump(mode="json")).encode())
        self._write_row(best_run_id=run_id)
        self._pushes.try_to_push()

    def finish(self, state: SweepState) -> None:
        """Records how the sweep ended and gives its folder back."""
        try:
            self._write_row(state=state)
            if state == "finished":
                self._pushes.push()
            else:
                self._pushes.try_to_push()
        finally:
            self.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._is_to_end:
            goes_on = isinstance(error, StoreError) or not isinstance(error, Exception)
            with contextlib.suppress(StoreError):  # the error itself matters more
                self.finish("interrupted" if goes_on else "failed")
        self.close()
