"""Replicas of a remote store on this machine: fetching records from the store, and sending single files to it.

All readers and writers work on the replica, a folder like any other. For a folder outside of every replica, the
functions here do nothing. A record is the content of the folder of a run or of a sweep. `fetch` leaves a record alone
while a process of this machine writes it; otherwise the version that is further along wins, the local or the remote
one. What writers upload is in `push.py`.
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
from mcl_ray.results.atomic_io import block_writers, check_writable, read_bytes, write_atomically
from mcl_ray.results.remote.push import (
    CHECKPOINTS,
    RETRY_WARNING,
    ROWS,
    STORE_FILE,
    Replica,
    Uploader,
    files_of,
    is_checkpoint,
    progress,
    replica_of,
)

CONCURRENT_RECORDS = 16
"""Number of records that are fetched or removed at a time."""
_RECORD_FILE = re.compile(r"(run|sweep|epochs-a\d+)\.parquet|\w+\.(yaml|json)")
_log = logging.getLogger(__name__)

T = TypeVar("T")
RecordFilter = Callable[[str], bool]


def open_results(environment: Environment) -> None:
    """Check that results can be written, before any work is done, and create the replica of a remote store.

    Raises:
        StoreError: the folder cannot be written, or the store cannot be reached, found or written.
    """
    if environment.store is None:
        check_writable(environment.results)
        return
    remote_at(environment.store).check_writable()
    open_replica(environment.store)


def pull_replica(store: Uri) -> Path:
    """Fetch all records of a store, and return the folder of the replica.

    Raises:
        StoreError: the store does not answer, or has no records.
    """
    remote_at(store).check_readable()
    folder = open_replica(store)
    fetch(folder)
    if not _local_records(folder):
        raise StoreError(f"results are read from a store with a run or a sweep, but {store} holds none yet")
    return folder


def open_replica(store: Uri) -> Path:
    """Create the replica of a store where it is missing, and return its folder; nothing is fetched.

    Raises:
        StoreError: the folder cannot be written.
    """
    folder = replica_folder(store)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"the replica of a store must be writable, but {folder} is not: {error.strerror}") from error
    if not (folder / STORE_FILE).exists():
        write_atomically(folder / STORE_FILE, store.encode())
    return folder


def fetch(folder: Path, *, checkpoints: bool = False, only: RecordFilter | None = None) -> None:
    """Bring the records in and below a folder up to date.

    Args:
        folder: Folder of a run, of a sweep, or one that contains some.
        checkpoints: Also fetch what is needed to resume a run.
        only: Selects records by their folder relative to the replica: `sweeps/digits-1/runs/digits-1-0000-r0`.

    Raises:
        StoreError: the store does not answer, or what it holds is damaged.
    """
    replica = replica_of(folder)
    if replica is None:
        return
    remote: dict[str, dict[str, int]] = {}
    for name, size in replica.remote.sizes(replica.name(folder)).items():
        remote.setdefault(_record_of(name), {})[name] = size
    for name in map(replica.name, _local_records(folder)):
        remote.setdefault(name, {})
    chosen = [record for record in remote if only is None or only(record)]
    _for_each(lambda record: _fetch_record(replica, record, remote[record], checkpoints=checkpoints), chosen)


def is_of_sweep(record: str) -> bool:
    """Return whether a record is that of a sweep, and not that of one of its runs."""
    return record.split("/")[-2:-1] == ["sweeps"]


def push(files: Iterable[Path]) -> None:
    """Upload single files, such as those of a report, to the store of the replica that they are in.

    Raises:
        StoreError: the store does not answer.
    """
    for file in files:
        replica = replica_of(file)
        if replica is not None:
            replica.push(file)


def try_to_push(files: Iterable[Path]) -> None:
    """Upload files that a later upload includes again; a failure is logged as a warning."""
    try:
        push(files)
    except StoreError as error:
        _log.warning(RETRY_WARNING, error)


def remove(folders: Iterable[Path]) -> None:
    """Remove folders on this machine and in the store; do nothing where there is none."""

    def remove_one(folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        replica = replica_of(folder)
        if replica is not None:
            replica.remote.delete_below(replica.name(folder))

    _for_each(remove_one, list(folders))


def _for_each(act: Callable[[T], None], items: Sequence[T]) -> None:
    """Call `act` for each item, concurrently if there are several: most of the time is spent waiting for the store."""
    if len(items) < 2:
        for item in items:
            act(item)
        return
    with ThreadPoolExecutor(CONCURRENT_RECORDS) as pool:
        list(pool.map(act, items))


def display_path(path: Path) -> str:
    """Return a path as users know it: a URI if it is in a replica."""
    replica = replica_of(path)
    return str(path) if replica is None else replica.uri_of(path)


def ray_storage(folder: Path) -> dict[str, Any]:
    """Return Ray's `storage_path` and `storage_filesystem` for a folder: local, or in the replica's store."""
    replica = replica_of(folder)
    if replica is None:
        return {"storage_path": str(folder)}
    return {"storage_path": replica.remote.path(replica.name(folder)), "storage_filesystem": replica.remote.filesystem}


def holds_anything(path: Path) -> bool:
    """Return whether a path is a file or a folder that is not empty, on this machine or in the store."""
    is_local = any(path.iterdir()) if path.is_dir() else path.exists() or path.is_symlink()
    replica = replica_of(path)
    return is_local or (replica is not None and bool(replica.remote.sizes(replica.name(path))))


def _fetch_record(replica: Replica, record: str, remote: Mapping[str, int], *, checkpoints: bool) -> None:
    """Bring one record up to date, unless a process of this machine writes it.

    Args:
        replica: The replica.
        record: Folder of the record, relative to the replica.
        remote: Name → bytes of the record's objects in the store.
        checkpoints: Also fetch checkpoints.
    """
    folder = replica.folder / record
    row_name = next((name for name in remote if name.rpartition("/")[2] in ROWS), None)
    if row_name is None and not _has_local_row(folder):
        return  # a folder that was claimed for a run that has not started
    folder.mkdir(parents=True, exist_ok=True)
    with block_writers(folder) as is_blocked:
        if not is_blocked:
            return
        if row_name is None:
            _remove_local(replica, folder)
            return
        row, others = replica.remote.read(row_name), {name: remote[name] for name in remote if name != row_name}
        if _is_further(replica.folder / row_name, row):
            Uploader(folder).push()
            others = {name: size for name, size in others.items() if f"/{CHECKPOINTS}/" in f"/{name}"}
            _download(replica, folder, others, checkpoints=checkpoints)
            return
        for name in (local for local in files_of(folder) if local not in ROWS and _is_resumed_from(local)):
            if replica.name(folder / name) not in others:
                (folder / name).unlink(missing_ok=True)
        _download(replica, folder, others, checkpoints=checkpoints)
        write_atomically(replica.folder / row_name, row)  # last: a row never claims more than there is beside it


def _remove_local(replica: Replica, folder: Path) -> None:
    """Remove the local files of a record that was deleted from the store."""
    shutil.rmtree(folder)
    open_replica(replica.remote.uri)


def _download(replica: Replica, folder: Path, remote: Mapping[str, int], *, checkpoints: bool) -> None:
    """Download a record's files; a checkpoint only if it is missing, as its name has its checksum."""
    for name, size in remote.items():
        file = replica.folder / name
        within = file.relative_to(folder).as_posix()
        is_present = is_checkpoint(within) and file.exists() and file.stat().st_size == size
        if not is_present and (_RECORD_FILE.fullmatch(within) or (checkpoints and _is_resumed_from(within))):
            file.parent.mkdir(exist_ok=True)
            write_atomically(file, replica.remote.read(name))


def _record_of(name: str) -> str:
    """Return the folder of the run or sweep that an object belongs to; empty for one outside of both.

    Folders are `runs/NAME`, `sweeps/NAME` and `sweeps/NAME/runs/NAME`.
    """
    parts, depth = name.split("/"), 0
    while depth + 2 < len(parts) and parts[depth] in ("runs", "sweeps"):
        depth += 2
    return "/".join(parts[:depth])


def _local_records(folder: Path) -> list[Path]:
    """Return the folders of all runs and sweeps in and below `folder`."""
    below = [record for kind in ("runs", "sweeps") for record in (folder / kind).glob("*/")]
    if folder.name in ("runs", "sweeps"):
        below += folder.glob("*/")
    found = [record for one in below for record in _local_records(one)]
    return [folder, *found] if _has_local_row(folder) else found


def _has_local_row(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ROWS)


def _is_resumed_from(name: str) -> bool:
    """Return whether a run is resumed from a file of its record, unlike from a report."""
    return bool(_RECORD_FILE.fullmatch(name)) or is_checkpoint(name) or ".tfevents." in name


def _is_further(file: Path, remote_row: bytes) -> bool:
    """Return whether the local row is further along than the one in the store, by attempt, then by wall time."""
    if not file.exists():
        return False
    with contextlib.suppress(StoreError):  # a damaged local row loses
        local, remote = (progress(content, file) for content in (read_bytes(file), remote_row))
        return local > remote
    return False
