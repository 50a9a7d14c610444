"""The files of an attempt: its claim, its spec, its log, and how it ended; on a shared disk or in an S3-like store.

The process that creates the claim owns the attempt: the driver, to run it, or the reconciler, to bury it. Creating is
exclusive, as `files.py` says.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from mcl_ray.errors import StoreError
from mcl_ray.jobs.files import OpenFile, files_below
from mcl_ray.object_store import Uri

MAX_LOG_BYTES = 1024 * 1024
"""The largest part of a log that one call reads."""


class Attempts:
    """The files of all attempts below a results root, as `jobs/<job>/a<attempt>.<suffix>`."""

    def __init__(self, root: Uri | Path) -> None:
        self.root = root
        self._files = files_below(root)

    def take(self, job: str, attempt: int, owner: str) -> bool:
        """Claim an attempt; return whether this call is the one that did."""
        return self._files.create(_name(job, attempt, "claim"), owner.encode())

    def is_claimed(self, job: str, attempt: int) -> bool:
        """Return whether any process owns an attempt."""
        return self._files.size(_name(job, attempt, "claim")) is not None

    def write(self, job: str, attempt: int, suffix: str, content: dict[str, Any]) -> None:
        """Write one of an attempt's JSON files, whole or not at all: `spec`, `manifest` or `outcome`."""
        self._files.write(_name(job, attempt, suffix), json.dumps(content, allow_nan=False).encode())

    def read(self, job: str, attempt: int, suffix: str) -> dict[str, Any] | None:
        """Return one of an attempt's JSON files; None where there is none.

        Raises:
            StoreError: the file is damaged.
        """
        try:
            content = self._files.read(_name(job, attempt, suffix))
        except FileNotFoundError:
            return None
        found = None
        with contextlib.suppress(ValueError):
            found = json.loads(content)
        if not isinstance(found, dict):
            raise StoreError(f"{_name(job, attempt, suffix)} must hold a JSON object, but is damaged")
        return found

    def log_path(self, job: str, attempt: int) -> Path | None:
        """Return the file that a driver logs to; None if the root is no folder."""
        return None if isinstance(self.root, Uri) else self.root / _name(job, attempt, "log")

    def write_log(self, job: str, attempt: int, content: bytes) -> None:
        """Replace the log of an attempt, where it cannot be written in place."""
        self._files.write(_name(job, attempt, "log"), content)

    def read_log(self, job: str, attempt: int, offset: int | None, count: int) -> tuple[bytes, int, int]:
        """Return a part of the log, its offset, and the size of the whole.

        Args:
            job: The job.
            attempt: Its attempt.
            offset: First byte; None for the last `count` bytes.
            count: Bytes to return at most.
        """
        name, count = _name(job, attempt, "log"), min(count, MAX_LOG_BYTES)
        size = self._files.size(name) or 0
        start = max(0, size - count) if offset is None else min(offset, size)
        length = min(count, size - start)
        return self._files.part(name, start, length) if length else b"", start, size

    def open_result(self, origin: str, path: str) -> OpenFile | None:
        """Return a file of a job's results, to be read in parts; None if there is none, or if it leads elsewhere.

        Args:
            origin: First ancestor of the job.
            path: The file, relative to the results folder.
        """
        folder = results_of(self.root, origin)
        if isinstance(folder, Path) and not (folder / path).resolve().is_relative_to(folder.resolve()):
            return None
        try:
            return self._files.open(f"jobs/{origin}/results/{path}")
        except (FileNotFoundError, ValueError):  # a path with `..` in it is a ValueError
            return None

    def newest_result(self, origin: str, name: str) -> bytes | None:
        """Return the newest file of a name in a job's results; None if there is none."""
        newest = self._files.newest(f"jobs/{origin}/results", name)
        return None if newest is None else self._files.read(newest)

    def check(self) -> None:
        """Raise an error unless the root can be written."""
        self._files.write("jobs/.probe", b"x")


def results_of(root: Uri | Path, origin: str) -> Uri | Path:
    """Return the results folder of a job and of all that retry or extend it."""
    return Uri(root.below(f"jobs/{origin}/results")) if isinstance(root, Uri) else root / "jobs" / origin / "results"


def _name(job: str, attempt: int, suffix: str) -> str:
    return f"jobs/{job}/a{attempt}.{suffix}"
