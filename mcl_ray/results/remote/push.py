"""The replica that a folder belongs to, and the upload of a record by its writer, in a safe order.

Fetching from the store is in `pull.py`. A record is the content of the folder of a run or of a sweep.
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

STORE_FILE = ".store"
"""File in the folder of a replica that holds the URI of its store."""
CHECKPOINTS = "checkpoints"
ROWS = {reader.RUN_FILE: "runs", reader.SWEEP_FILE: "sweeps"}
"""Name of a one-row file → kind of its table."""
_NOT_UPLOADED = re.compile(r"\..*|.*\.tmp|.*\.db-\w+|tune|ray|runs|sweeps")
"""Entries of a record's folder that stay local, and those that are records of their own."""
RETRY_WARNING = "%s; the upload is repeated with the next one, or when the run or sweep is resumed on this machine"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Replica:
    """A folder of this machine, and the remote store that it replicates."""

    remote: Remote
    folder: Path

    def name(self, path: Path) -> str:
        """Return the name of a path of the replica in the store; empty for the replica's own folder."""
        relative = path.relative_to(self.folder).as_posix()
        return "" if relative == "." else relative

    def uri_of(self, path: Path) -> str:
        """Return the URI of a path of the replica."""
        return self.remote.uri.below(self.name(path))

    def push(self, file: Path) -> None:
        """Upload one file.

        Raises:
            StoreError: the file cannot be read, or the store does not answer.
        """
        self.remote.write(self.name(file), read_bytes(file))


def replica_of(path: Path) -> Replica | None:
    """Return the replica that a path is in; None outside of the folder of all replicas."""
    stores = caches("stores")
    if not path.is_relative_to(stores) or path == stores:
        return None
    folder = stores / path.relative_to(stores).parts[0]
    return Replica(remote_at(Uri(read_bytes(folder / STORE_FILE).decode())), folder)


class StaleWriterError(StoreError):
    """The run was resumed by a process on another machine, so this writer must stop."""


class Uploader:
    """Uploads one record, and keeps track of which files its store has; for the record's writer only."""

    def __init__(self, folder: Path) -> None:
        self._replica, self._folder = replica_of(folder), folder
        self._sent: dict[str, tuple[int, int]] | None = None
        """Name → time and size of the uploaded version; None before the first push."""
        self._seen: set[str] = set()

    def push(self) -> None:
        """Upload what changed, the row last; then delete from the store what was deleted locally since the last push.

        With this order, the store always has what its row claims, and never lacks a checkpoint to resume from.

        Raises:
            StoreError: the store does not answer; the next push uploads what is missing.
            StaleWriterError: the run was resumed on another machine.
        """
        if self._replica is None:
            return
        local = files_of(self._folder)
        remote = self._replica.remote.sizes(self._replica.name(self._folder))
        self._check_not_stale(self._replica, remote)
        if self._sent is None:  # a checkpoint of equal name and size is equal, as its name has its checksum
            self._sent = {
                name: stamp
                for name, stamp in local.items()
                if is_checkpoint(name) and remote.get(self._replica.name(self._folder / name)) == stamp[1]
            }
            self._seen = set(local)
        for name, stamp in sorted(local.items(), key=lambda item: _upload_order(item[0])):
            if self._sent.get(name) != stamp:
                self._replica.push(self._folder / name)
                self._sent[name] = stamp
        for name in self._seen - local.keys():
            self._replica.remote.delete(self._replica.name(self._folder / name))
        self._seen = set(local)

    def _check_not_stale(self, replica: Replica, remote: Collection[str]) -> None:
        """Check that no later attempt is in the store; file locks do not reach other machines."""
        row = self._folder / reader.RUN_FILE
        if replica.name(row) not in remote:
            return
        own, (latest, _) = progress(read_bytes(row), row)[0], progress(replica.remote.read(replica.name(row)), row)
        if latest > own:
            run = replica.uri_of(self._folder)
            raise StaleWriterError(f"a run has one writer at a time, but attempt {latest} of {run} follows {own}")

    def try_to_push(self) -> bool:
        """Push, and return whether everything was uploaded; a failure is logged, and the next push repeats it.

        Raises:
            StaleWriterError: the run was resumed on another machine.
        """
        try:
            self.push()
        except StaleWriterError:
            raise
        except StoreError as error:
            _log.warning(RETRY_WARNING, error)
            return False
        return True

    def drop_checkpoints(self) -> None:
        """Delete the replica's checkpoints after they were uploaded; `fetch` gets them again on demand."""
        if self._replica is not None:
            shutil.rmtree(self._folder / CHECKPOINTS, ignore_errors=True)


def files_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Return name → modification time (ns) and size (bytes) of the files of a record."""
    found: dict[str, tuple[int, int]] = {}
    for entry in folder.iterdir():
        if not _NOT_UPLOADED.fullmatch(entry.name):
            files = entry.rglob("*") if entry.is_dir() else [entry]
            for file in (file for file in files if file.is_file() and not _NOT_UPLOADED.fullmatch(file.name)):
                stat = file.stat()
                found[file.relative_to(folder).as_posix()] = (stat.st_mtime_ns, stat.st_size)
    return found


def is_checkpoint(name: str) -> bool:
    """Return whether a file of a record is a checkpoint."""
    return name.startswith(f"{CHECKPOINTS}/")


def _upload_order(name: str) -> tuple[int, str]:
    """Sort checkpoints first and rows last."""
    return 0 if is_checkpoint(name) else 2 if name in ROWS else 1, name


def progress(content: bytes, file: Path) -> tuple[int, float]:
    """Return how far a record is: its attempt, and its wall time in seconds.

    Raises:
        StoreError: `content` is damaged; `file` is named in the message.
    """
    kind: Any = ROWS[file.name]
    (row,) = schema.from_parquet(content, kind, file).to_pylist()
    return row.get("attempt", 1), row["wall_time_s"]
