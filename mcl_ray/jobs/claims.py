"""The files of an attempt: its claim, its spec, its log, and how it ended; on a shared disk or in an S3-like store.

The process that creates the claim owns the attempt: the driver, to run it, or the reconciler, to bury it. Creating is
exclusive: a hard link on a disk, a conditional put in a store (`obstore`'s create mode; pyarrow drops If-None-Match).
"""

from __future__ import annotations

import contextlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import LocalStore, S3Store

from mcl_ray.errors import StoreError
from mcl_ray.object_store import Uri

MAX_LOG_BYTES = 1024 * 1024
"""The largest part of a log that one call reads."""


class Attempts:
    """The files of all attempts below a results root, as `jobs/<job>/a<attempt>.<suffix>`."""

    def __init__(self, root: Uri | Path) -> None:
        self.root = root
        self._store = _store(root)

    def take(self, job: str, attempt: int, owner: str) -> bool:
        """Claim an attempt; return whether this call is the one that did."""
        try:
            obstore.put(self._store, _name(job, attempt, "claim"), owner.encode(), mode="create")
        except AlreadyExistsError:
            return False
        return True

    def is_claimed(self, job: str, attempt: int) -> bool:
        """Return whether any process owns an attempt."""
        return self._size(_name(job, attempt, "claim")) is not None

    def write(self, job: str, attempt: int, suffix: str, content: dict[str, Any]) -> None:
        """Write one of an attempt's JSON files, whole or not at all: `spec`, `manifest` or `outcome`."""
        obstore.put(self._store, _name(job, attempt, suffix), json.dumps(content, allow_nan=False).encode())

    def read(self, job: str, attempt: int, suffix: str) -> dict[str, Any] | None:
        """Return one of an attempt's JSON files; None where there is none.

        Raises:
            StoreError: the file is damaged.
        """
        try:
            content = bytes(obstore.get(self._store, _name(job, attempt, suffix)).bytes())
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
        obstore.put(self._store, _name(job, attempt, "log"), content)

    def read_log(self, job: str, attempt: int, offset: int | None, count: int) -> tuple[bytes, int, int]:
        """Return a part of the log, its offset, and the size of the whole.

        Args:
            job: The job.
            attempt: Its attempt.
            offset: First byte; None for the last `count` bytes.
            count: Bytes to return at most.
        """
        name, count = _name(job, attempt, "log"), min(count, MAX_LOG_BYTES)
        size = self._size(name) or 0
        start = max(0, size - count) if offset is None else min(offset, size)
        length = min(count, size - start)
        content = bytes(obstore.get_range(self._store, name, start=start, length=length)) if length else b""
        return content, start, size

    def open_result(self, origin: str, path: str) -> obstore.GetResult | None:
        """Return a file of a job's results, to be read in parts; None if there is none, or if it leads elsewhere.

        Args:
            origin: First ancestor of the job.
            path: The file, relative to the results folder.
        """
        folder = results_of(self.root, origin)
        if isinstance(folder, Path) and not (folder / path).resolve().is_relative_to(folder.resolve()):
            return None
        try:
            return obstore.get(self._store, f"jobs/{origin}/results/{path}")
        except (FileNotFoundError, ValueError):  # a path with `..` in it is a ValueError
            return None

    def newest_result(self, origin: str, name: str) -> bytes | None:
        """Return the newest file of a name in a job's results; None if there is none."""
        listed = (file for part in obstore.list(self._store, f"jobs/{origin}/results") for file in part)
        found = max((file for file in listed if file["path"].endswith(f"/{name}")), key=_age, default=None)
        return None if found is None else bytes(obstore.get(self._store, found["path"]).bytes())

    def check(self) -> None:
        """Raise an error unless the root can be written."""
        obstore.put(self._store, "jobs/.probe", b"x")

    def _size(self, name: str) -> int | None:
        try:
            return int(obstore.head(self._store, name)["size"])
        except FileNotFoundError:
            return None


def _age(file: obstore.ObjectMeta) -> datetime:
    return file["last_modified"]


def results_of(root: Uri | Path, origin: str) -> Uri | Path:
    """Return the results folder of a job and of all that retry or extend it."""
    return Uri(root.below(f"jobs/{origin}/results")) if isinstance(root, Uri) else root / "jobs" / origin / "results"


def _name(job: str, attempt: int, suffix: str) -> str:
    return f"jobs/{job}/a{attempt}.{suffix}"


def _store(root: Uri | Path) -> LocalStore | S3Store:
    if isinstance(root, Path):
        return LocalStore(root, mkdir=True)
    parts = urlsplit(root)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    endpoint: dict[str, Any] = {}
    if "endpoint_override" in options:
        scheme = options.get("scheme", "https")
        endpoint = {"endpoint": f"{scheme}://{options['endpoint_override']}", "client_options": {"allow_http": True}}
    if "region" in options:
        endpoint["region"] = options["region"]
    return S3Store(parts.netloc, prefix=parts.path.strip("/") or None, **endpoint)
