"""The copy of a remote store that a folder is in, and what a record's writer sends from it, in an order that holds.

What comes from the store is `copies.py`; a record is what lies in the folder of a run or of a sweep.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcl_ray.errors import StoreError
from mcl_ray.object_store import Remote, Uri, caches, remote_at
from mcl_ray.results import reader, schema
from mcl_ray.results.atomic_io import read_bytes

MARK = ".store"
"""In a copy's folder: the URI of its store."""
CHECKPOINTS = "checkpoints"
ROWS = {reader.RUN_FILE: "runs", reader.SWEEP_FILE: "sweeps"}
_ONLY_HERE = re.compile(r"\..*|.*\.tmp|.*\.db-\w+|tune|ray|runs|sweeps")
"""What the copy of a record has for itself, and what is below it and not of it."""
LATER = "%s; it is sent with what comes next, or when the run or sweep goes on here"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replica:
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


def replica_of(path: Path) -> Replica | None:
    """The copy that a path is in, known by where copies are."""
    stores = caches("stores")
    if not path.is_relative_to(stores) or path == stores:
        return None
    folder = stores / path.relative_to(stores).parts[0]
    return Replica(remote_at(Uri(read_bytes(folder / MARK).decode())), folder)


class StaleWriterError(StoreError):
    """Another process goes on with a run: this one must not."""


class Uploader:
    """What of one record's folder is in its store already, as far as its writer knows."""

    def __init__(self, folder: Path) -> None:
        self._copy, self._folder = replica_of(folder), folder
        self._sent: dict[str, tuple[int, int]] | None = None
        self._seen: set[str] = set()

    def push(self) -> None:
        """Send what changed, the row last; then remove there what was here and is not any more.

        What is in the store is thus never less than what its row tells of, and never without a checkpoint.

        Raises:
            StoreError: the store does not answer; the next push makes up for it.
            StaleWriterError: the run was gone on with from another machine.
        """
        if self._copy is None:
            return
        here = files_of(self._folder)
        there = self._copy.remote.sizes(self._copy.name(self._folder))
        self._check_not_overtaken(self._copy, there)
        if self._sent is None:  # a checkpoint's name has its checksum
            self._sent = {
                name: stamp
                for name, stamp in here.items()
                if is_checkpoint(name) and there.get(self._copy.name(self._folder / name)) == stamp[1]
            }
            self._seen = set(here)
        for name, stamp in sorted(here.items(), key=lambda item: _rank(item[0])):
            if self._sent.get(name) != stamp:
                self._copy.push(self._folder / name)
                self._sent[name] = stamp
        for name in self._seen - here.keys():
            self._copy.remote.delete(self._copy.name(self._folder / name))
        self._seen = set(here)

    def _check_not_overtaken(self, copy: Replica, there: Collection[str]) -> None:
        """Locks are of one machine; on another, an attempt that follows this one is what tells."""
        row = self._folder / reader.RUN_FILE
        if copy.name(row) not in there:
            return
        mine, (theirs, _) = progress(read_bytes(row), row)[0], progress(copy.remote.read(copy.name(row)), row)
        if theirs > mine:
            run = copy.uri_of(self._folder)
            raise StaleWriterError(f"a run has one writer at a time, but attempt {theirs} of {run} follows {mine}")

    def try_to_push(self) -> bool:
        """Whether all is sent; if not, that is said, and whoever pushes next makes up for it.

        Raises:
            StaleWriterError: the run was gone on with from another machine.
        """
        try:
            self.push()
        except StaleWriterError:
            raise
        except StoreError as error:
            _log.warning(LATER, error)
            return False
        return True

    def drop_checkpoints(self) -> None:
        """Remove the copy's checkpoints once all is sent: whoever needs one fetches it."""
        if self._copy is not None:
            shutil.rmtree(self._folder / CHECKPOINTS, ignore_errors=True)


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Name → time and size of the files that are of a record."""
    found: dict[str, tuple[int, int]] = {}
    for entry in folder.iterdir():
        if not _ONLY_HERE.fullmatch(entry.name):
            files = entry.rglob("*") if entry.is_dir() else [entry]
            for file in (file for file in files if file.is_file() and not _ONLY_HERE.fullmatch(file.name)):
                stat = file.stat()
                found[file.relative_to(folder).as_posix()] = (stat.st_mtime_ns, stat.st_size)
    return found


def is_checkpoint(name: str) -> bool:
    """Whether a file of a record is a checkpoint."""
    return name.startswith(f"{CHECKPOINTS}/")


def _rank(name: str) -> tuple[int, str]:
    return 0 if is_checkpoint(name) else 2 if name in ROWS else 1, name


def progress(content: bytes, file: Path) -> tuple[int, float]:
    """How far a row tells of: its attempt, and its time."""
    kind: Any = ROWS[file.name]
    (row,) = schema.from_parquet(content, kind, file).to_pylist()
    return row.get("attempt", 1), row["wall_time_s"]
