"""The writer of a run: one writer and one file of figures per attempt, and one row with the state of the run.

The training loop decides which figures there are; `reader.py` reads them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa

from mcl_ray.config.plugins import plugin_records
from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import StoreError, WorkerDiedError
from mcl_ray.results import reader, schema
from mcl_ray.results.atomic_io import FolderLock, claim_folder, ensure_writable, remove_leftovers, write_atomically
from mcl_ray.results.dataset_info import DatasetInfo, write_dataset_info
from mcl_ray.results.plugin_info import write_plugins
from mcl_ray.results.provenance import Provenance
from mcl_ray.results.queries import training_times
from mcl_ray.results.record_writer import RecordWriter
from mcl_ray.results.remote import pull
from mcl_ray.results.schema import EpochRow, RunState
from mcl_ray.results.stop_decision import is_stop_decided

CLAIM_LOCK = ".claim.lock"
CLAIM_WAIT_S = 30.0
AMEND_WAIT_S = 10.0


class RunWriter(RecordWriter):
    """Writes one attempt of one run, and holds the run's folder until the attempt is finished or closed."""

    def __init__(self, folder: Path, lock: FolderLock, row: dict[str, Any]) -> None:
        super().__init__(folder, lock, reader.RUN_FILE, "runs", row)
        self._epochs = schema.SCHEMAS["epochs"].empty_table()

    @classmethod
    def create(
        cls,
        root: Path,
        spec: RunSpec,
        *,
        searched: Mapping[str, Any] | None = None,
        sweep_id: str | None = None,
        trial_id: str | None = None,
        provenance: Provenance | None = None,
    ) -> RunWriter:
        """Create a run with the next serial of this spec in `root`/runs.

        Args:
            root: A results folder, or a sweep's folder.
            spec: The resolved spec.
            searched: Searched field → value, for a run of a sweep.
            sweep_id: The sweep that the run belongs to.
            trial_id: The trial that the run belongs to.
            provenance: Machine and code; those of this process if not given.

        Raises:
            StoreError: the folder cannot be written.
        """
        folder = cls.claim(root, spec)
        labels = {"searched": schema.to_json(searched or {}), "sweep_id": sweep_id, "trial_id": trial_id}
        return cls._first(folder, FolderLock(folder).acquire(), spec, labels, provenance)

    @classmethod
    def claim(cls, root: Path, spec: RunSpec) -> Path:
        """Claim the next serial of this spec in `root`/runs, for another process that calls `begin` with its name.

        Raises:
            StoreError: the folder cannot be written.
        """
        ensure_writable(root)
        return _claim_run(root, spec)

    @classmethod
    def begin(
        cls,
        root: Path,
        run_id: str,
        spec: RunSpec,
        *,
        searched: Mapping[str, Any] | None = None,
        sweep_id: str | None = None,
        trial_id: str | None = None,
        provenance: Provenance | None = None,
    ) -> RunWriter:
        """Start the run of this name in `root`/runs or, if it exists, its next attempt, whether finished or not.

        Calling this again after a process was killed, at whatever moment, never creates a second run of the name.
        The arguments are those of `create`.

        Raises:
            StoreError: the folder cannot be written, or another process writes it.
        """
        folder = root / "runs" / run_id
        ensure_writable(folder)
        pull.fetch(folder, checkpoints=True)
        lock = FolderLock(folder, wait_s=AMEND_WAIT_S).acquire()
        if reader.is_run(folder):
            return cls._again(folder, lock, provenance, may_be_finished=True)
        labels = {"searched": schema.to_json(searched or {}), "sweep_id": sweep_id, "trial_id": trial_id}
        return cls._first(folder, lock, spec, labels, provenance)

    @classmethod
    def _first(
        cls, folder: Path, lock: FolderLock, spec: RunSpec, labels: dict[str, Any], provenance: Provenance | None
    ) -> RunWriter:
        writer = cls(folder, lock, _run_row(folder.name, spec, provenance or Provenance()) | labels)
        try:
            write_atomically(folder / reader.SPEC_FILE, reader.to_yaml(spec.model_dump(mode="json")).encode())
            write_plugins(folder, writer.attempt, plugin_records(spec.plugins))
            writer._write_row()
            writer._uploader.push()
        except BaseException:
            writer.close()
            raise
        return writer

    @classmethod
    def resume(cls, run_folder: Path, *, provenance: Provenance | None = None) -> RunWriter:
        """Start the next attempt of an unfinished run.

        Raises:
            StoreError: there is no run, it is finished, or another process writes it.
        """
        return cls._again(run_folder, _lock(run_folder, 0.5, checkpoints=True), provenance, may_be_finished=False)

    @classmethod
    def amend(cls, run_folder: Path) -> RunWriter:
        """Start an attempt that adds to a run, finished or not; an epoch that it records replaces that epoch.

        The recorded machine and wall time stay those of the training; so does the state until `finish` changes it.
        Waits for the lock, which a process that just died may hold a little longer.

        Raises:
            StoreError: there is no run, or another process writes it.
        """
        return cls._again(
            run_folder, _lock(run_folder, AMEND_WAIT_S, checkpoints=False), None, may_be_finished=True, trains=False
        )

    @classmethod
    def _again(
        cls,
        folder: Path,
        lock: FolderLock,
        provenance: Provenance | None,
        *,
        may_be_finished: bool,
        trains: bool = True,
    ) -> RunWriter:
        try:
            row = reader.read_row(folder / reader.RUN_FILE, "runs")
            if row["state"] == "finished" and not may_be_finished:
                raise StoreError(f"only an unfinished run can be resumed, but {folder.name} is finished")
            remove_leftovers(folder)
            writer = cls(folder, lock, row | {"attempt": _next_attempt(folder, row["attempt"])})
            if trains:
                writer._row |= _machine(provenance or Provenance()) | {
                    "state": "running",
                    "error_type": None,
                    "error": None,
                }
                write_plugins(folder, writer.attempt, plugin_records(writer.spec.plugins))
            else:
                writer.stop_clock()
            writer._write_row()
            writer._uploader.push()
        except BaseException:
            lock.release()
            raise
        return writer

    @property
    def run_id(self) -> str:
        """Id of the run, the name of its folder."""
        return self.folder.name

    @property
    def spec(self) -> RunSpec:
        """The recorded spec of the run."""
        return RunSpec.model_validate_json(self._row["spec"])

    @property
    def attempt(self) -> int:
        """Number of the attempt: 1 for a new run, one more each time it is resumed."""
        return int(self._row["attempt"])

    @property
    def checkpoints(self) -> Path:
        """Folder of this run's checkpoints; it need not exist."""
        return self.folder / "checkpoints"

    @property
    def state_if_closed(self) -> RunState:
        """State of a run that is closed before its last epoch: `stopped` if that was decided, else `interrupted`."""
        return "stopped" if is_stop_decided(self.folder, self._row["epochs_done"]) else "interrupted"

    def cost(self, name: str) -> float:
        """Return a cost of the run: `parameters` or `multiply_adds`, once described, or `training_time_s` so far."""
        if name == "training_time_s":
            return training_times(reader.read_epochs(self.folder)).get(self.run_id, 0.0)
        return float(self._row[name])

    def record_dataset(self, images: DatasetInfo) -> None:
        """Record the description of the run's data set; it is uploaded with the first epoch."""
        assert self._lock.held, f"the writer of {self.folder} is closed"
        write_dataset_info(self.folder, images)

    def describe(self, *, parameters: int, multiply_adds: int | None) -> None:
        """Record the costs of the cohort, which are known only once it is built."""
        self._write_row(parameters=parameters, multiply_adds=multiply_adds)

    def record_hardware(self, hardware: str) -> None:
        """Replace the hardware of this attempt, once it is known how its workers share the run."""
        self._write_row(hardware=hardware)

    def record_unreadable(self, names: Collection[str]) -> None:
        """Add to the names of the images that did not decode; a run without any has no such file."""
        known = reader.read_unreadable(self.folder)
        if not set(names) <= set(known):
            content = json.dumps(sorted({*known, *names}), indent=1, ensure_ascii=False)
            write_atomically(self.folder / reader.UNREADABLE_FILE, content.encode())

    def record_epoch(self, epoch: int, rows: Iterable[EpochRow]) -> None:
        """Append the figures of an epoch, counted from 1; on return they are on disk for any process to read."""
        assert epoch >= 1, f"epochs count from 1, but got {epoch}"
        self.check_in_place()
        keys = {"run_id": self.run_id, "attempt": self.attempt, "epoch": epoch}
        added = schema.table("epochs", [keys | row._asdict() for row in rows])
        epochs = pa.concat_tables([self._epochs, added]).combine_chunks()
        write_atomically(self.folder / f"epochs-a{self.attempt:04d}.parquet", schema.to_parquet(epochs))
        self._epochs = epochs
        self._write_row(epochs_done=epoch)
        self._uploader.try_to_push()

    def finish(self, state: RunState, error: BaseException | None = None) -> None:
        """Record how the run ended, and release its folder."""
        failure = {"error_type": type(error).__name__, "error": str(error)} if error is not None else {}
        try:
            self._write_row(state=state, **failure)
            if state == "finished":
                self._uploader.push()
            if state == "finished" or self._uploader.try_to_push():
                self._uploader.drop_checkpoints()
        finally:
            self.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._is_open:
            is_resumable = isinstance(error, (StoreError, WorkerDiedError)) or not isinstance(error, Exception)
            self.finish("interrupted" if is_resumable else "failed", error)
        self.close()


def _lock(run_folder: Path, wait_s: float, *, checkpoints: bool) -> FolderLock:
    pull.fetch(run_folder, checkpoints=checkpoints)
    if not reader.is_run(run_folder):
        raise StoreError(f"only a run can be resumed, but {run_folder} holds no {reader.RUN_FILE}")
    return FolderLock(run_folder, wait_s=wait_s).acquire()


def _claim_run(root: Path, spec: RunSpec) -> Path:
    """Claim a name that is unique in the whole root, so that the tables of several sweeps can be concatenated."""
    results, stem = reader.results_root(root), f"{spec.recipe}-{spec.digest}"
    with FolderLock(results, name=CLAIM_LOCK, wait_s=CLAIM_WAIT_S):
        pull.fetch(root / "runs", only=lambda record: record.rpartition("/")[2].startswith(f"{stem}-"))
        return claim_folder(root / "runs", stem, reader.highest_serial(results, stem) + 1)


def _run_row(run_id: str, spec: RunSpec, provenance: Provenance) -> dict[str, Any]:
    return _machine(provenance) | {
        "run_id": run_id,
        "recipe": spec.recipe,
        "digest": spec.digest,
        "spec": schema.to_json(spec.model_dump(mode="json")),
        "seed": spec.seed,
        "attempt": 1,
        "state": "running",
        "epochs_done": 0,
        "epochs_planned": spec.schedule.epochs,
        "started_at": datetime.now(UTC),
        "wall_time_s": 0.0,
        "parameters": provenance.parameters,
        "multiply_adds": provenance.multiply_adds,
    }


def _machine(provenance: Provenance) -> dict[str, Any]:
    names = ("host", "hardware", "code_version", "torch_version")
    return {name: getattr(provenance, name) for name in names}


def _next_attempt(run_folder: Path, recorded: int) -> int:
    """Return the next number, counting an attempt that was killed after its figures and before its row were written."""
    files = [path.stem.removeprefix("epochs-a") for path in run_folder.glob("epochs-a*.parquet")]
    return max([recorded, *(int(number) for number in files)]) + 1
