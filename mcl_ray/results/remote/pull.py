"""Copies of a remote store on this machine: what of a run or a sweep comes from there, what goes there, and when.

All readers and writers work on the copy, a folder like any other; for folders that are part of none, nothing here does
anything. A record is what lies in the folder of a run or of a sweep. While somebody on this machine writes one, it is
left alone; else the one that came further counts, the copy's or the store's. What writers send is `pushes.py`.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from mcl_ray.config.environment import Environment, replica_folder
from mcl_ray.errors import StoreError
from mcl_ray.object_store import Uri, remote_at
from mcl_ray.results.atomic_io import check_writable, read_bytes, unwritten, write_atomically
from mcl_ray.results.remote.push import (
    CHECKPOINTS,
    LATER,
    MARK,
    ROWS,
    Replica,
    Uploader,
    files_of,
    is_checkpoint,
    progress,
    replica_of,
)

AT_ONCE = 16
"""Records that are fetched at a time."""
_RECORD = re.compile(r"(run|sweep|epochs-a\d+)\.parquet|\w+\.(yaml|json)")
_log = logging.getLogger(__name__)

T = TypeVar("T")
Chosen = Callable[[str], bool]


def open_results(environment: Environment) -> None:
    """Whether results can be written, asked before any work is done; the copy of a store is made.

    Raises:
        StoreError: the folder cannot be written, or the store not be reached, found or written.
    """
    if environment.store is None:
        check_writable(environment.results)
        return
    remote_at(environment.store).check_writable()
    open_replica(environment.store)


def pull_replica(store: Uri) -> Path:
    """The folder of this machine's copy, with all records that the store has.

    Raises:
        StoreError: it does not answer, or has none.
    """
    remote_at(store).check_readable()
    folder = open_replica(store)
    fetch(folder)
    if not _local_records(folder):
        raise StoreError(f"results to tell of are a run or a sweep, but {store} holds none yet")
    return folder


def open_replica(store: Uri) -> Path:
    """The folder of this machine's copy, with nothing fetched yet."""
    folder = replica_folder(store)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"the copy of a store must be writable, but {folder} is not: {error.strerror}") from error
    if not (folder / MARK).exists():
        write_atomically(folder / MARK, store.encode())
    return folder


def fetch(folder: Path, *, checkpoints: bool = False, only: Chosen | None = None) -> None:
    """Bring the records below a folder up to date.

    Args:
        folder: Of a run, of a sweep, or one that holds some.
        checkpoints: Also fetch what a run needs to go on.
        only: Which records, by their folder's name below the copy's own: `sweeps/digits-1/runs/digits-1-0000-r0`.

    Raises:
        StoreError: the store does not answer, or what it holds is damaged.
    """
    copy = replica_of(folder)
    if copy is None:
        return
    inside = copy.name(folder)
    there: dict[str, dict[str, int]] = {}
    for name, size in copy.remote.sizes(inside).items():
        there.setdefault(_record_of(name), {})[name] = size
    for name in map(copy.name, _local_records(folder)):
        there.setdefault(name, {})
    chosen = [record for record in there if only is None or only(record)]
    _each(lambda record: _fetch(copy, record, there[record], checkpoints=checkpoints), chosen)


def is_of_sweep(record: str) -> bool:
    """Whether a record is a sweep's own, and not that of one of its runs."""
    return record.split("/")[-2:-1] == ["sweeps"]


def push(files: Iterable[Path]) -> None:
    """Send single files, a report's, to the store whose copy they are in."""
    for file in files:
        copy = replica_of(file)
        if copy is not None:
            copy.push(file)


def try_to_push(files: Iterable[Path]) -> None:
    """Send files that are sent again with what comes next; that they could not be is said."""
    try:
        push(files)
    except StoreError as error:
        _log.warning(LATER, error)


def remove(folders: Iterable[Path]) -> None:
    """Remove folders, in the store too; nothing happens where there is none."""

    def remove_one(folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        copy = replica_of(folder)
        if copy is not None:
            copy.remote.delete_below(copy.name(folder))

    _each(remove_one, list(folders))


def _each(act: Callable[[T], None], things: Sequence[T]) -> None:
    """In threads where there are several: what takes its time is the store's answers."""
    if len(things) < 2:
        for thing in things:
            act(thing)
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(act, things))


def display_path(path: Path) -> str:
    """How a person finds it: by its URI where it is in a copy of a store."""
    copy = replica_of(path)
    return str(path) if copy is None else copy.uri_of(path)


def ray_storage(folder: Path) -> dict[str, Any]:
    """Where Ray keeps its own notes on what is in a folder, in its words: there, or in the folder's store."""
    copy = replica_of(folder)
    if copy is None:
        return {"storage_path": str(folder)}
    return {"storage_path": copy.remote.path(copy.name(folder)), "storage_filesystem": copy.remote.filesystem}


def holds_anything(path: Path) -> bool:
    """Whether there is a file at a path, or a folder with something in it, here or in the store."""
    here = any(path.iterdir()) if path.is_dir() else path.exists() or path.is_symlink()
    copy = replica_of(path)
    return here or (copy is not None and bool(copy.remote.sizes(copy.name(path))))


def _fetch(copy: Replica, record: str, there: Mapping[str, int], *, checkpoints: bool) -> None:
    """Bring one record up to date, unless somebody here writes it."""
    folder = copy.folder / record
    row_name = next((name for name in there if name.rpartition("/")[2] in ROWS), None)
    if row_name is None and not _local_row(folder):
        return  # claimed, and not begun
    folder.mkdir(parents=True, exist_ok=True)
    with unwritten(folder) as free:
        if not free:
            return
        if row_name is None:
            _forget(copy, folder)
            return
        row, others = copy.remote.read(row_name), {name: there[name] for name in there if name != row_name}
        if _is_further(copy.folder / row_name, row):
            Uploader(folder).push()
            others = {name: size for name, size in others.items() if f"/{CHECKPOINTS}/" in f"/{name}"}
            _add(copy, folder, others, checkpoints=checkpoints)
            return
        for name in (here for here in files_of(folder) if here not in ROWS and _belongs(here)):
            if copy.name(folder / name) not in others:
                (folder / name).unlink(missing_ok=True)
        _add(copy, folder, others, checkpoints=checkpoints)
        write_atomically(copy.folder / row_name, row)


def _forget(copy: Replica, folder: Path) -> None:
    """Remove the copy of what is gone from the store."""
    shutil.rmtree(folder)
    open_replica(copy.remote.uri)


def _add(copy: Replica, folder: Path, there: Mapping[str, int], *, checkpoints: bool) -> None:
    """Fetch what records are made of; checkpoints only where they are missing, as no two of them share a name."""
    for name, size in there.items():
        file = copy.folder / name
        within = file.relative_to(folder).as_posix()
        is_here = is_checkpoint(within) and file.exists() and file.stat().st_size == size
        if not is_here and (_RECORD.fullmatch(within) or (checkpoints and _belongs(within))):
            file.parent.mkdir(exist_ok=True)
            write_atomically(file, copy.remote.read(name))


def _record_of(name: str) -> str:
    """The folder of the run or sweep that an object is of: `runs/NAME`, `sweeps/NAME/runs/NAME`, or the store's own."""
    parts, depth = name.split("/"), 0
    while depth + 2 < len(parts) and parts[depth] in ("runs", "sweeps"):
        depth += 2
    return "/".join(parts[:depth])


def _local_records(folder: Path) -> list[Path]:
    """The folders of runs and sweeps from `folder` on."""
    below = [record for kind in ("runs", "sweeps") for record in (folder / kind).glob("*/")]
    if folder.name in ("runs", "sweeps"):
        below += folder.glob("*/")
    found = [record for one in below for record in _local_records(one)]
    return [folder, *found] if _local_row(folder) else found


def _local_row(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ROWS)


def _belongs(name: str) -> bool:
    """Whether a file is what a run goes on from; a report is not."""
    return bool(_RECORD.fullmatch(name)) or is_checkpoint(name) or ".tfevents." in name


def _is_further(file: Path, there: bytes) -> bool:
    """Whether a row here tells of more than the one in the store: its attempt, then its time."""
    if not file.exists():
        return False
    with contextlib.suppress(StoreError):  # damaged: the store's is the better one
        here, known = (progress(content, file) for content in (read_bytes(file), there))
        return here > known
    return False
