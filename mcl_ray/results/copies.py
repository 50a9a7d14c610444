"""Copies of a remote store on this machine: what of a run or a sweep comes from there, what goes there, and when.

All readers and writers work on the copy, a folder like any other; for folders that are part of none, nothing here does
anything. A record is what lies in the folder of a run or of a sweep. While somebody on this machine writes one, it is
left alone; else the one that came further counts, the copy's or the store's. Objects and errors are `remote.py`.
"""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mcl_ray.environment import Environment, copy_folder
from mcl_ray.errors import StoreError
from mcl_ray.remote import Remote, Uri, caches, remote_at
from mcl_ray.results import reading, schema
from mcl_ray.results.files import check_writable, read_bytes, unwritten, write_atomically

MARK = ".store"
"""In a copy's folder: the URI of its store."""
CHECKPOINTS = "checkpoints"
AT_ONCE = 16
"""Records that are fetched at a time."""
_ROWS = {reading.RUN_FILE: "runs", reading.SWEEP_FILE: "sweeps"}
_RECORD = re.compile(r"(run|sweep|epochs-a\d+)\.parquet|\w+\.(yaml|json)")
_ONLY_HERE = re.compile(r"\..*|.*\.tmp|.*\.db-\w+|tune|ray|runs|sweeps")
"""What the copy of a record has for itself, and what is below it and not of it."""
LATER = "%s; it is sent with what comes next, or when the run or sweep goes on here"
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
    make_copy(environment.store)


def copy_at(store: Uri) -> Path:
    """The folder of this machine's copy, with all records that the store has.

    Raises:
        StoreError: it does not answer, or has none.
    """
    remote_at(store).check_readable()
    folder = make_copy(store)
    fetch(folder)
    if not _local_records(folder):
        raise StoreError(f"a report needs a run or a sweep, but {store} holds none yet")
    return folder


def make_copy(store: Uri) -> Path:
    """The folder of this machine's copy, with nothing fetched yet."""
    folder = copy_folder(store)
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
    copy = _copy_of(folder)
    if copy is None:
        return
    inside = copy.name(folder)
    there: dict[str, dict[str, int]] = {}
    for name, size in copy.remote.sizes(inside).items():
        there.setdefault(_record_of(name), {})[name] = size
    for name in map(copy.name, _local_records(folder)):
        there.setdefault(name, {})
    chosen = [record for record in there if only is None or only(record)]
    _each(lambda record: copy.fetch(record, there[record], checkpoints=checkpoints), chosen)


def is_of_sweep(record: str) -> bool:
    """Whether a record is a sweep's own, and not that of one of its runs."""
    return record.split("/")[-2:-1] == ["sweeps"]


def push(files: Iterable[Path]) -> None:
    """Send single files, a report's, to the store whose copy they are in."""
    for file in files:
        copy = _copy_of(file)
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
        copy = _copy_of(folder)
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


def shown(path: Path) -> str:
    """How a person finds it: by its URI where it is in a copy of a store."""
    copy = _copy_of(path)
    return str(path) if copy is None else copy.uri_of(path)


def ray_storage(folder: Path) -> dict[str, Any]:
    """Where Ray keeps its own notes on what is in a folder, in its words: there, or in the folder's store."""
    copy = _copy_of(folder)
    if copy is None:
        return {"storage_path": str(folder)}
    return {"storage_path": copy.remote.path(copy.name(folder)), "storage_filesystem": copy.remote.filesystem}


@dataclass(frozen=True)
class _Copy:
    """A folder of this machine, and the store that it is a copy of."""

    remote: Remote
    folder: Path

    def name(self, path: Path) -> str:
        """What a path of the copy is called in the store."""
        relative = path.relative_to(self.folder).as_posix()
        return "" if relative == "." else relative

    def uri_of(self, path: Path) -> str:
        """Where a path of the copy is in the store."""
        return self.remote.uri.below(self.name(path))

    def push(self, file: Path) -> None:
        """Send one file."""
        self.remote.write(self.name(file), read_bytes(file))

    def fetch(self, record: str, there: Mapping[str, int], *, checkpoints: bool) -> None:
        """Bring one record up to date, unless somebody here writes it."""
        folder = self.folder / record
        row_name = next((name for name in there if name.rpartition("/")[2] in _ROWS), None)
        if row_name is None and not _local_row(folder):
            return  # claimed, and not begun
        folder.mkdir(parents=True, exist_ok=True)
        with unwritten(folder) as free:
            if not free:
                return
            if row_name is None:
                self._forget(folder)
                return
            row, others = self.remote.read(row_name), {name: there[name] for name in there if name != row_name}
            if _is_further(self.folder / row_name, row):
                Pushes(folder).push()
                others = {name: size for name, size in others.items() if f"/{CHECKPOINTS}/" in f"/{name}"}
                self._add(folder, others, checkpoints=checkpoints)
                return
            for name in (here for here in _files_of(folder) if here not in _ROWS and _belongs(here)):
                if self.name(folder / name) not in others:
                    (folder / name).unlink(missing_ok=True)
            self._add(folder, others, checkpoints=checkpoints)
            write_atomically(self.folder / row_name, row)

    def _forget(self, folder: Path) -> None:
        """Remove the copy of what is gone from the store."""
        shutil.rmtree(folder)
        make_copy(self.remote.uri)

    def _add(self, folder: Path, there: Mapping[str, int], *, checkpoints: bool) -> None:
        """Fetch what records are made of; checkpoints only where they are missing, as no two of them share a name."""
        for name, size in there.items():
            file = self.folder / name
            within = file.relative_to(folder).as_posix()
            is_here = _is_checkpoint(within) and file.exists() and file.stat().st_size == size
            if not is_here and (_RECORD.fullmatch(within) or (checkpoints and _belongs(within))):
                file.parent.mkdir(exist_ok=True)
                write_atomically(file, self.remote.read(name))


class OvertakenError(StoreError):
    """Another process goes on with a run: this one must not."""


class Pushes:
    """What of one record's folder is in its store already, as far as its writer knows."""

    def __init__(self, folder: Path) -> None:
        self._copy, self._folder = _copy_of(folder), folder
        self._sent: dict[str, tuple[int, int]] | None = None
        self._seen: set[str] = set()

    def push(self) -> None:
        """Send what changed, the row last; then remove there what was here and is not any more.

        What is in the store is thus never less than what its row tells of, and never without a checkpoint.

        Raises:
            StoreError: the store does not answer; the next push makes up for it.
            OvertakenError: the run was gone on with from another machine.
        """
        if self._copy is None:
            return
        here = _files_of(self._folder)
        there = self._copy.remote.sizes(self._copy.name(self._folder))
        self._check_not_overtaken(self._copy, there)
        if self._sent is None:  # a checkpoint's name has its checksum
            self._sent = {
                name: stamp
                for name, stamp in here.items()
                if _is_checkpoint(name) and there.get(self._copy.name(self._folder / name)) == stamp[1]
            }
            self._seen = set(here)
        for name, stamp in sorted(here.items(), key=lambda item: _rank(item[0])):
            if self._sent.get(name) != stamp:
                self._copy.push(self._folder / name)
                self._sent[name] = stamp
        for name in self._seen - here.keys():
            self._copy.remote.delete(self._copy.name(self._folder / name))
        self._seen = set(here)

    def _check_not_overtaken(self, copy: _Copy, there: Collection[str]) -> None:
        """Locks are of one machine; on another, an attempt that follows this one is what tells."""
        row = self._folder / reading.RUN_FILE
        if copy.name(row) not in there:
            return
        mine, (theirs, _) = _progress(read_bytes(row), row)[0], _progress(copy.remote.read(copy.name(row)), row)
        if theirs > mine:
            run = copy.uri_of(self._folder)
            raise OvertakenError(f"a run has one writer at a time, but attempt {theirs} of {run} follows {mine}")

    def try_to_push(self) -> bool:
        """Whether all is sent; if not, that is said, and whoever pushes next makes up for it.

        Raises:
            OvertakenError: the run was gone on with from another machine.
        """
        try:
            self.push()
        except OvertakenError:
            raise
        except StoreError as error:
            _log.warning(LATER, error)
            return False
        return True

    def drop_checkpoints(self) -> None:
        """Remove the copy's checkpoints once all is sent: whoever needs one fetches it."""
        if self._copy is not None:
            shutil.rmtree(self._folder / CHECKPOINTS, ignore_errors=True)


def _copy_of(path: Path) -> _Copy | None:
    """The copy that a path is in, known by where copies are."""
    stores = caches("stores")
    if not path.is_relative_to(stores) or path == stores:
        return None
    folder = stores / path.relative_to(stores).parts[0]
    return _Copy(remote_at(Uri(read_bytes(folder / MARK).decode())), folder)


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
    return any((folder / name).is_file() for name in _ROWS)


def _files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Name → time and size of the files that are of a record."""
    found: dict[str, tuple[int, int]] = {}
    for entry in folder.iterdir():
        if not _ONLY_HERE.fullmatch(entry.name):
            files = entry.rglob("*") if entry.is_dir() else [entry]
            for file in (file for file in files if file.is_file() and not _ONLY_HERE.fullmatch(file.name)):
                stat = file.stat()
                found[file.relative_to(folder).as_posix()] = (stat.st_mtime_ns, stat.st_size)
    return found


def _belongs(name: str) -> bool:
    """Whether a file is what a run goes on from; a report is not."""
    return bool(_RECORD.fullmatch(name)) or _is_checkpoint(name) or ".tfevents." in name


def _is_checkpoint(name: str) -> bool:
    return name.startswith(f"{CHECKPOINTS}/")


def _rank(name: str) -> tuple[int, str]:
    return 0 if _is_checkpoint(name) else 2 if name in _ROWS else 1, name


def _is_further(file: Path, there: bytes) -> bool:
    """Whether a row here tells of more than the one in the store: its attempt, then its time."""
    if not file.exists():
        return False
    with contextlib.suppress(StoreError):  # damaged: the store's is the better one
        here, known = (_progress(content, file) for content in (read_bytes(file), there))
        return here > known
    return False


def _progress(content: bytes, file: Path) -> tuple[int, float]:
    kind: Any = _ROWS[file.name]
    (row,) = schema.from_parquet(content, kind, file).to_pylist()
    return row.get("attempt", 1), row["wall_time_s"]
