"""The folders of a results root, and the tables read from any of them.

    <root>/runs/<run_id>/                  run.parquet, epochs-a0001.parquet (one per attempt), checkpoints/
                                           spec.yaml, images.json
    <root>/sweeps/<sweep_id>/              sweep.parquet, sweep.yaml, best.yaml, report/
    <root>/sweeps/<sweep_id>/runs/<run_id>/

Writing is `store.py`.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import StoreError
from mcl_ray.results import schema
from mcl_ray.results.atomic_io import is_locked, read_bytes, subfolders

RUN_FILE, SWEEP_FILE, SPEC_FILE = "run.parquet", "sweep.parquet", "spec.yaml"
UNREADABLE_FILE = "unreadable.json"
SWEEP_SPEC_FILE, BEST_FILE, REPORT_FOLDER = "sweep.yaml", "best.yaml", "report"
ENDED = ("finished", "stopped", "failed")
"""States after which a run goes on only if somebody asks for it."""


def is_run(folder: Path) -> bool:
    """Whether `folder` holds one run."""
    return _holds(folder, RUN_FILE)


def is_sweep(folder: Path) -> bool:
    """Whether `folder` holds one sweep."""
    return _holds(folder, SWEEP_FILE)


def _holds(folder: Path, name: str) -> bool:
    try:
        return (folder / name).is_file()
    except OSError as error:  # a folder that may not be entered, a name too long
        raise StoreError(f"results must be readable, but reading {folder} failed: {error.strerror}") from error


def run_folders(path: Path) -> list[Path]:
    """The folders of all runs in a run folder, a sweep folder or a root.

    A folder that was claimed by a writer killed before its first record holds no run yet, and is left out.

    Raises:
        StoreError: `path` is none of the three.
    """
    if is_run(path):
        return [path]
    parents = [path / "runs"] if is_sweep(path) else [path / "runs", *_inside_sweeps(path)]
    _check_layout(path)
    return [folder for parent in parents for folder in subfolders(parent) if is_run(folder)]


def sweep_folders(path: Path) -> list[Path]:
    """The folders of all sweeps in a sweep folder or a root; none in a run folder."""
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
        what = "holds none of them" if path.is_dir() else "is not a folder"
        raise StoreError(f"results are read from a run, a sweep or a folder with runs/ or sweeps/, but {path} {what}")


def read_runs(path: Path) -> pa.Table:
    """One row per run below `path`, oldest first.

    A run that says it is running, on this machine, and that no process writes any more, reads as interrupted.
    """
    rows = [_run_row(folder) for folder in run_folders(path)]
    return schema.table("runs", sorted(rows, key=lambda row: (row["started_at"], row["run_id"])))


def _run_row(folder: Path) -> dict[str, Any]:
    return _current_row(folder, folder / RUN_FILE, "runs")


def _current_row(folder: Path, file: Path, kind: schema.Kind) -> dict[str, Any]:
    row = read_row(file, kind)
    if row["state"] == "running" and row["host"] == platform.node() and not is_locked(folder):
        # The writer may have finished between the two looks.
        row = read_row(file, kind)
        row["state"] = "interrupted" if row["state"] == "running" else row["state"]
    return row


def read_row(path: Path, kind: schema.Kind) -> dict[str, Any]:
    """The only row of a run's or a sweep's file."""
    rows: list[dict[str, Any]] = schema.from_parquet(read_bytes(path), kind, path).to_pylist()
    if len(rows) != 1:
        raise StoreError(f"a file of {kind} must hold one row, but {path} holds {len(rows)}")
    return rows[0]


def read_sweeps(path: Path) -> pa.Table:
    """One row per sweep below `path`, oldest first; a killed one reads as interrupted, as runs do."""
    rows = [_current_row(folder, folder / SWEEP_FILE, "sweeps") for folder in sweep_folders(path)]
    return schema.table("sweeps", sorted(rows, key=lambda row: (row["started_at"], row["sweep_id"])))


def read_epochs(path: Path) -> pa.Table:
    """Every figure of every run below `path`: one clean curve per run, however often it was resumed."""
    return _concatenated(_merge_attempts(_attempts(folder)) for folder in run_folders(path))


def _attempts(folder: Path) -> list[pa.Table]:
    paths = sorted(folder.glob("epochs-a*.parquet"))
    return [schema.from_parquet(read_bytes(path), "epochs", path) for path in paths]


def _merge_attempts(attempts: list[pa.Table]) -> pa.Table:
    """An attempt overrides the earlier ones from its first epoch on, also where it has not come as far yet."""
    kept: list[pa.Table] = []
    first_epoch: int | None = None
    for attempt in reversed(attempts):
        rows = attempt if first_epoch is None else attempt.filter(pc.less(attempt["epoch"], first_epoch))
        if rows.num_rows:
            kept.append(rows)
            first_epoch = pc.min(rows["epoch"]).as_py()
    return _concatenated(reversed(kept))


def _concatenated(tables: Iterable[pa.Table]) -> pa.Table:
    return pa.concat_tables([schema.SCHEMAS["epochs"].empty_table(), *tables])


def results_root(folder: Path) -> Path:
    """The root that a sweep folder lies in; any other folder is its own root."""
    return folder.parents[1] if folder.parent.name == "sweeps" else folder


def highest_serial(root: Path, stem: str) -> int:
    """The highest serial that any run `stem-serial` below `root` has, in sweeps or not; 0 without one."""
    parents = [root / "runs", *_inside_sweeps(root)]
    return max((serial_of(folder) for parent in parents for folder in subfolders(parent, f"{stem}-*")), default=0)


def serial_of(folder: Path) -> int:
    """The number that ends a folder's name; 0 without one."""
    serial = folder.name.rpartition("-")[2]
    return int(serial) if serial.isdecimal() else 0


def state_of(run_folder: Path) -> str:
    """How the run stands; a killed one reads as interrupted."""
    return str(_run_row(run_folder)["state"])


def is_finished(run_folder: Path) -> bool:
    """Whether nothing is left to do: the run came to its end, or a scheduler ended it."""
    return state_of(run_folder) in ("finished", "stopped")


def has_ended(folder: Path) -> bool:
    """Whether `folder` holds a run that came to an end of its own: finished, stopped or failed."""
    return is_run(folder) and state_of(folder) in ENDED


def find_run(root: Path, spec: RunSpec) -> Path | None:
    """The latest run of exactly this spec in `root`/runs; None when there is none."""
    folders = [folder for folder in subfolders(root / "runs", f"{spec.recipe}-{spec.digest}-*") if is_run(folder)]
    return max(folders, key=serial_of, default=None)


def read_unreadable(run_folder: Path) -> list[str]:
    """Names of the images that did not decode while a run trained.

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
    """The folder of a sweep in `root`/sweeps, by its id; `latest` is the one that was begun last.

    Raises:
        StoreError: there is none; the message names those there are.
    """
    known = {folder.name: folder for folder in subfolders(root / "sweeps") if is_sweep(folder)}
    if sweep_id == "latest" and known:
        rows = [read_row(folder / SWEEP_FILE, "sweeps") for folder in known.values()]
        return known[max(rows, key=lambda row: row["started_at"])["sweep_id"]]
    if sweep_id not in known:
        raise StoreError(
            f"a sweep is named by its id, or is latest, but {root / 'sweeps'} holds "
            f"{', '.join(known) or 'none'}, not {sweep_id}"
        )
    return known[sweep_id]


def wait_for_orphans(sweep_folder: Path, wait_s: float = 60.0) -> None:
    """Return once nobody writes in a sweep's runs: the processes of a killed driver outlive it by a few seconds.

    Raises:
        StoreError: somebody still does after `wait_s`.
    """
    deadline = time.monotonic() + wait_s
    for folder in subfolders(sweep_folder / "runs"):
        while is_locked(folder):
            if time.monotonic() >= deadline:
                raise StoreError(f"a sweep's trials have one writer each, but another process writes {folder}")
            time.sleep(0.1)


def read_spec(run_folder: Path) -> RunSpec:
    """The resolved spec that a run was started with."""
    return RunSpec.model_validate_json(read_row(run_folder / RUN_FILE, "runs")["spec"])


def to_yaml(content: dict[str, Any]) -> str:
    """YAML in the order of the fields."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
