"""Lookup of a run's folder by path, URI or id; a sweep resolves to its best run."""

from __future__ import annotations

import difflib
from pathlib import Path

from mcl_ray.errors import StoreError
from mcl_ray.object_store import Uri, remote_at
from mcl_ray.results.atomic_io import subfolders
from mcl_ray.results.reader import SWEEP_FILE, is_run, is_sweep, read_row
from mcl_ray.results.remote.pull import display_path, fetch, open_replica


def named_run(name: Uri | Path, results: Uri | Path) -> Path:
    """Return the folder of the run that `name` identifies, with its record fetched; for a sweep, of its best run.

    Args:
        name: The folder of a run or of a sweep, its URI, or its id below `results`.
        results: The results folder, or its URI, in which ids are looked up.

    Raises:
        StoreError: there is no such run, or the sweep has no best run yet.
    """
    folder = named_record(name, results)
    return _best_run(folder) if is_sweep(folder) else folder


def named_record(name: Uri | Path, results: Uri | Path) -> Path:
    """Return the folder of the run or the sweep that `name` identifies, as `named_run` does.

    Raises:
        StoreError: there is no such run or sweep.
    """
    folder = _local_folder(name)
    if not _is_record(folder):
        if isinstance(name, Uri) or folder.exists():
            raise StoreError(f"a run is named by the folder of a run or a sweep, or by its id, but {name} is neither")
        folder = _by_id(str(name), results)
    return folder


def _local_folder(location: Uri | Path) -> Path:
    """Return the folder itself, or for a URI the folder of its replica, with the records fetched."""
    if isinstance(location, Path):
        return location
    remote_at(location).check_readable()
    folder = open_replica(location)
    fetch(folder)
    return folder


def _is_record(folder: Path) -> bool:
    return is_run(folder) or is_sweep(folder)


def _by_id(name: str, results: Uri | Path) -> Path:
    root = _local_folder(results)
    parents = [root / "runs", root / "sweeps", *(sweep / "runs" for sweep in subfolders(root / "sweeps"))]
    known = {folder.name: folder for parent in parents for folder in subfolders(parent) if _is_record(folder)}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        held = f"{len(known)} runs and sweeps" if known else "none"
        hint = f"did you mean {near[0]}?" if near else f"{display_path(root)} holds {held}"
        raise StoreError(f"a run is named by the folder of a run or a sweep, or by its id, but got {name}; {hint}")
    return known[name]


def _best_run(sweep_folder: Path) -> Path:
    best: str | None = read_row(sweep_folder / SWEEP_FILE, "sweeps")["best_run_id"]
    if best is None:
        raise StoreError(
            f"a sweep stands for its best run once it has one, but {display_path(sweep_folder)} has none; name a run"
        )
    return sweep_folder / "runs" / best
