"""The layout of a results folder, and the tables read from it.

    <root>/runs/<run_id>/                  run.parquet, epochs-a0001.parquet (one per attempt), checkpoints/
                                           spec.yaml, images.json, plugins.json, stop.json
    <root>/sweeps/<sweep_id>/              sweep.parquet, sweep.yaml, best.yaml, report/
    <root>/sweeps/<sweep_id>/runs/<run_id>/
    <root>/sweeps/<sweep_id>/.records/     what was read of very many runs; made again from their files if it is deleted

The writers are `run_writer.py` and `sweep_writer.py`.
"""

from __future__ import annotations

import json
import platform
import re
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mcl_ray.config import yaml12
from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import StoreError
from mcl_ray.results import schema
from mcl_ray.results.atomic_io import is_locked, read_bytes, subfolders
from mcl_ray.results.record_cache import RecordCache, Source
from mcl_ray.results.stop_decision import is_stop_decided

RUN_FILE, SWEEP_FILE, SPEC_FILE = "run.parquet", "sweep.parquet", "spec.yaml"
UNREADABLE_FILE = "unreadable.json"
SWEEP_SPEC_FILE, BEST_FILE, REPORT_FOLDER = "sweep.yaml", "best.yaml", "report"
ENDED = ("finished", "stopped", "failed")
"""States in which a run is resumed only on request."""


def is_run(folder: Path) -> bool:
    """Return whether `folder` holds one run."""
    return _holds(folder, RUN_FILE)


def is_sweep(folder: Path) -> bool:
    """Return whether `folder` holds one sweep."""
    return _holds(folder, SWEEP_FILE)


def _holds(folder: Path, name: str) -> bool:
    try:
        return (folder / name).is_file()
    except OSError as error:  # no permission to enter the folder, a name too long
        raise StoreError(f"results must be readable, but reading {folder} failed: {error.strerror}") from error


def run_folders(path: Path) -> list[Path]:
    """Return the folders of all runs in a run folder, a sweep folder or a results folder.

    A folder whose writer was killed before it wrote a record holds no run, and is left out.

    Raises:
        StoreError: `path` is none of the three.
    """
    if is_run(path):
        return [path]
    parents = [path / "runs"] if is_sweep(path) else [path / "runs", *_inside_sweeps(path)]
    _check_layout(path)
    return [folder for parent in parents for folder in subfolders(parent) if is_run(folder)]


def sweep_folders(path: Path) -> list[Path]:
    """Return the folders of all sweeps in a sweep folder or a results folder; none in a run folder.

    Raises:
        StoreError: `path` is none of the three.
    """
    if is_sweep(path):
        return [path]
    if is_run(path):
        return []
    _check_layout(path)
    return [folder for folder in subfolders(path / "sweeps") if is_sweep(folder)]


def _inside_sweeps(root: Path) -> list[Path]:
    return [folder / "runs" for folder in subfolders(root / "sweeps")]


def _check_layout(path: Path) -> None:
    if not (is_run(path) or is_sweep(path) or (path / "runs").is_dir() or (path / "sweeps").is_dir()):
        reason = "holds none of them" if path.is_dir() else "is not a folder"
        raise StoreError(f"results are read from a run, a sweep or a folder with runs/ or sweeps/, but {path} {reason}")


def read_runs(path: Path) -> pa.Table:
    """Return one row per run below `path`, oldest first.

    A run of this machine in state `running` whose folder is not locked reads as `interrupted`, and an interrupted one
    whose stop was decided before as `stopped`.

    Raises:
        StoreError: `path` holds no results, or damaged ones.
    """
    found = schema.concatenated("runs", _tables(path, _RUN))
    return found.sort_by([("started_at", "ascending"), ("run_id", "ascending")])


def _tables(path: Path, source: Source) -> Iterator[pa.Table]:
    """Yield the rows of every run below `path`; those of a single run are read from its own files."""
    if is_run(path):
        yield source.read(path)
        return
    for parent, folders in groupby(run_folders(path), key=lambda folder: folder.parent):
        yield from RecordCache(parent, source).tables(list(folders))


def _run_table(folder: Path) -> pa.Table:
    """Return the row of a run, in the state that it has now."""
    recorded = _read_one(folder / RUN_FILE, "runs")
    return recorded if _has_lasting_state(recorded) else schema.table("runs", [_run_row(folder)])


def _has_lasting_state(row: pa.Table) -> bool:
    return row["state"][0].as_py() in ENDED


def _run_row(folder: Path) -> dict[str, Any]:
    row = _current_row(folder, folder / RUN_FILE, "runs")
    if row["state"] == "interrupted" and is_stop_decided(folder, row["epochs_done"]):
        row["state"] = "stopped"
    return row


def _current_row(folder: Path, file: Path, kind: schema.Kind) -> dict[str, Any]:
    row = read_row(file, kind)
    if row["state"] == "running" and row["host"] == platform.node() and not is_locked(folder):
        # The writer may have finished since the row was read.
        row = read_row(file, kind)
        row["state"] = "interrupted" if row["state"] == "running" else row["state"]
    return row


def read_row(path: Path, kind: schema.Kind) -> dict[str, Any]:
    """Return the only row of a run's or a sweep's file."""
    row: dict[str, Any] = _read_one(path, kind).to_pylist()[0]
    return row


def _read_one(path: Path, kind: schema.Kind) -> pa.Table:
    found = schema.from_parquet(read_bytes(path), kind, path)
    if found.num_rows != 1:
        raise StoreError(f"a file of {kind} must have one row, but {path} has {found.num_rows}")
    return found


def read_sweeps(path: Path) -> pa.Table:
    """Return one row per sweep below `path`, oldest first; a killed sweep reads as `interrupted`, as runs do.

    Raises:
        StoreError: `path` holds no results, or damaged ones.
    """
    rows = [_current_row(folder, folder / SWEEP_FILE, "sweeps") for folder in sweep_folders(path)]
    return schema.table("sweeps", sorted(rows, key=lambda row: (row["started_at"], row["sweep_id"])))


def read_epochs(path: Path, select: Callable[[pa.Table], pa.Table] = lambda epochs: epochs) -> pa.Table:
    """Return the figures of every run below `path`, with the attempts of each run merged into one curve.

    Args:
        path: Folder of a run, of a sweep, or of results.
        select: Returns the rows that are needed; of very many runs, all figures would take much memory.

    Raises:
        StoreError: `path` holds no results, or damaged ones.
    """
    return schema.concatenated("epochs", map(select, _tables(path, _EPOCHS)))


def _epochs_table(folder: Path) -> pa.Table:
    paths = sorted(folder.glob("epochs-a*.parquet"))
    return _merge_attempts([schema.from_parquet(read_bytes(path), "epochs", path) for path in paths])


def _merge_attempts(attempts: list[pa.Table]) -> pa.Table:
    """Merge attempts: each replaces the earlier ones from its first epoch on, even if it has fewer epochs."""
    merged: list[pa.Table] = []
    first_epoch: int | None = None
    for attempt in reversed(attempts):
        rows = attempt if first_epoch is None else attempt.filter(pc.less(attempt["epoch"], first_epoch))
        if rows.num_rows:
            merged.append(rows)
            first_epoch = pc.min(rows["epoch"]).as_py()
    return schema.concatenated("epochs", reversed(merged))


_RUN = Source(kind="runs", files=re.compile(r"run\.parquet"), read=_run_table, is_lasting=_has_lasting_state)
_EPOCHS = Source(kind="epochs", files=re.compile(r"epochs-a.*\.parquet"), read=_epochs_table)


def cache_records(run_folders: Sequence[Path]) -> None:
    """Cache the records of runs of one sweep that have ended, so that its next reader need not open each.

    Raises:
        StoreError: a record is damaged.
    """
    folders = [folder for folder in run_folders if is_run(folder)]
    for source in (_RUN, _EPOCHS) if folders else ():
        RecordCache(folders[0].parent, source).add(folders)


def results_root(folder: Path) -> Path:
    """Return the results folder that contains a sweep folder; any other folder is returned as it is."""
    return folder.parents[1] if folder.parent.name == "sweeps" else folder


def highest_serial(root: Path, stem: str) -> int:
    """Return the highest serial of the runs `stem-serial` below `root`, inside and outside of sweeps; 0 without one."""
    parents = [root / "runs", *_inside_sweeps(root)]
    return max((serial_of(folder) for parent in parents for folder in subfolders(parent, f"{stem}-*")), default=0)


def serial_of(folder: Path) -> int:
    """Return the number at the end of a folder's name; 0 without one."""
    serial = folder.name.rpartition("-")[2]
    return int(serial) if serial.isdecimal() else 0


def state_of(run_folder: Path) -> str:
    """Return the state of a run; a killed one reads as `interrupted`."""
    return str(_run_row(run_folder)["state"])


def recorded_state(run_folder: Path) -> str:
    """Return the state in a run's record, as its writer left it."""
    return str(read_row(run_folder / RUN_FILE, "runs")["state"])


def is_finished(run_folder: Path) -> bool:
    """Return whether nothing is left to do: the run trained to its end, or a scheduler stopped it."""
    return state_of(run_folder) in ("finished", "stopped")


def has_ended(folder: Path) -> bool:
    """Return whether `folder` holds a run that is finished, stopped or failed."""
    return is_run(folder) and state_of(folder) in ENDED


def find_run(root: Path, spec: RunSpec) -> Path | None:
    """Return the folder of the latest run of exactly this spec in `root`/runs; None without one."""
    for digest in spec.digests:
        folders = [folder for folder in subfolders(root / "runs", f"{spec.recipe}-{digest}-*") if is_run(folder)]
        if folders:
            return max(folders, key=serial_of)
    return None


def read_unreadable(run_folder: Path) -> list[str]:
    """Return the names of the images that did not decode in a run.

    Raises:
        StoreError: the file is damaged.
    """
    file = run_folder / UNREADABLE_FILE
    if not file.exists():
        return []
    try:
        names: list[str] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{file} is damaged: {error}") from error
    return names


def find_sweep(root: Path, sweep_id: str) -> Path:
    """Return the folder of a sweep in `root`/sweeps by its id; `latest` is the one that started last.

    Raises:
        StoreError: there is no such sweep; the message lists the sweeps there are.
    """
    known = {folder.name: folder for folder in subfolders(root / "sweeps") if is_sweep(folder)}
    if sweep_id == "latest" and known:
        rows = [read_row(folder / SWEEP_FILE, "sweeps") for folder in known.values()]
        return known[max(rows, key=lambda row: row["started_at"])["sweep_id"]]
    if sweep_id not in known:
        raise StoreError(
            f"a sweep is named by its id or by `latest`, but got {sweep_id}; {root / 'sweeps'} has "
            f"{', '.join(known) or 'none'}"
        )
    return known[sweep_id]


def wait_for_orphans(sweep_folder: Path, wait_s: float = 60.0) -> None:
    """Wait until no process writes in a sweep's runs: workers outlive a killed driver by a few seconds.

    Raises:
        StoreError: a process still writes after `wait_s`.
    """
    deadline = time.monotonic() + wait_s
    for folder in subfolders(sweep_folder / "runs"):
        while is_locked(folder):
            if time.monotonic() >= deadline:
                raise StoreError(f"a trial has one writer at a time, but another process writes {folder}")
            time.sleep(0.1)


def read_spec(run_folder: Path) -> RunSpec:
    """Return the resolved spec that a run was started with."""
    return RunSpec.model_validate_json(read_row(run_folder / RUN_FILE, "runs")["spec"])


def to_yaml(content: dict[str, Any]) -> str:
    """Return YAML with the fields in their own order."""
    return yaml12.dump(content)
