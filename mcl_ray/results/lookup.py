"""From what a person calls a run to its folder: a path, a URI, or an id. A sweep stands for its best run."""

from __future__ import annotations

import difflib
from pathlib import Path

from mcl_ray.errors import StoreError
from mcl_ray.object_store import Uri, remote_at
from mcl_ray.results.atomic_io import subfolders
from mcl_ray.results.reader import SWEEP_FILE, is_run, is_sweep, read_row
from mcl_ray.results.remote.pull import display_path, fetch, open_replica


def named_run(name: Uri | Path, results: Uri | Path) -> Path:
    """The folder of the run that `name` stands for, with its record up to date; a sweep stands for its best run.

    Args:
        name: The folder of a run or of a sweep, its URI, or its id below `results`.
        results: Where ids are looked for.

    Raises:
        StoreError: there is no such run, or the sweep has no best one yet.
    """
    folder = _opened(name)
    if not _is_record(folder):
        if isinstance(name, Uri) or folder.exists():
            raise StoreError(f"a run is named by its folder, or its sweep's, or by its id, but {name} holds none")
        folder = _by_id(str(name), results)
    return _best_run(folder) if is_sweep(folder) else folder


def _opened(place: Uri | Path) -> Path:
    """The folder itself, or this machine's copy of what is at a URI, its records fetched."""
    if isinstance(place, Path):
        return place
    remote_at(place).check_readable()
    folder = open_replica(place)
    fetch(folder)
    return folder


def _is_record(folder: Path) -> bool:
    return is_run(folder) or is_sweep(folder)


def _by_id(name: str, results: Uri | Path) -> Path:
    root = _opened(results)
    parents = [root / "runs", root / "sweeps", *(sweep / "runs" for sweep in subfolders(root / "sweeps"))]
    known = {folder.name: folder for parent in parents for folder in subfolders(parent) if _is_record(folder)}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"{display_path(root)} holds {len(known) or 'none'}"
        raise StoreError(f"a run is named by its folder, or its sweep's, or by its id, but got {name}; {hint}")
    return known[name]


def _best_run(sweep_folder: Path) -> Path:
    best: str | None = read_row(sweep_folder / SWEEP_FILE, "sweeps")["best_run_id"]
    if best is None:
        raise StoreError(
            f"a search stands for its best run once it has ended, but {display_path(sweep_folder)} has none; name a run"
        )
    return sweep_folder / "runs" / best
