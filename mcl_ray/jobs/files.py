"""The files below a results root, as far as the service and its drivers read and write them: on a disk or in a store.

Creating is exclusive: a hard link on a disk, a conditional put in an S3-like store (`obstore`'s create mode; pyarrow
drops If-None-Match).
"""

from __future__ import annotations

import contextlib
import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from mcl_ray.object_store import Uri

CHUNK_BYTES = 1 << 18


class OpenFile(NamedTuple):
    """A file that is read in parts."""

    size: int
    chunks: Iterator[bytes]


class Files(ABC):
    """Files below a root, each named by its path from there; a write is seen whole or not at all."""

    @abstractmethod
    def create(self, name: str, content: bytes) -> bool:
        """Write a file unless it exists; return whether this call did."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Write or replace a file."""

    @abstractmethod
    def open(self, name: str) -> OpenFile:
        """Return a file to be read in parts.

        Raises:
            FileNotFoundError: there is none.
        """

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Return the bytes of a file; None if there is none."""

    @abstractmethod
    def part(self, name: str, start: int, length: int) -> bytes:
        """Return a part of a file."""

    @abstractmethod
    def newest(self, folder: str, name: str) -> str | None:
        """Return the file below `folder`, at any depth, that ends with `/name` and was written last."""

    def read(self, name: str) -> bytes:
        """Return a file.

        Raises:
            FileNotFoundError: there is none.
        """
        return b"".join(self.open(name).chunks)


def files_below(root: Uri | Path) -> Files:
    """Return the files below a results root."""
    return StoreFiles(root) if isinstance(root, Uri) else FolderFiles(root)


class FolderFiles(Files):
    """Files in a folder, which every node of a cluster sees."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def create(self, name: str, content: bytes) -> bool:
        """Link a new file to the name, which fails if it is taken."""
        with self._temporary(name, content) as temporary:
            try:
                (self._root / name).hardlink_to(temporary)
            except FileExistsError:
                return False
        return True

    def write(self, name: str, content: bytes) -> None:
        """Rename a new file to the name."""
        with self._temporary(name, content) as temporary:
            temporary.replace(self._root / name)

    def open(self, name: str) -> OpenFile:
        """Open a file, which the last chunk closes."""
        file = self._existing(name).open("rb")

        def chunks() -> Iterator[bytes]:
            with file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk

        return OpenFile(os.fstat(file.fileno()).st_size, chunks())

    def size(self, name: str) -> int | None:
        """Return its size; None if there is none."""
        try:
            return self._existing(name).stat().st_size
        except FileNotFoundError:
            return None

    def part(self, name: str, start: int, length: int) -> bytes:
        """Read a part of a file."""
        with self._existing(name).open("rb") as file:
            file.seek(start)
            return file.read(length)

    def newest(self, folder: str, name: str) -> str | None:
        """Return the match with the latest time of change."""
        found = (self._root / folder).glob(f"**/{name}")
        newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
        return None if newest is None else str(newest.relative_to(self._root))

    def _existing(self, name: str) -> Path:
        path = self._root / name
        with contextlib.suppress(OSError, ValueError):  # a name that no file can have: too long, or with a NUL
            if path.is_file():
                return path
        raise FileNotFoundError(f"there is no file {path}")  # nothing, a folder, or below a file

    @contextlib.contextmanager
    def _temporary(self, name: str, content: bytes) -> Iterator[Path]:
        """Write the content beside the file of this name, durably."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


class StoreFiles(Files):
    """Objects in an S3-like store."""

    def __init__(self, root: Uri) -> None:
        from obstore.store import S3Store  # 8 MB of memory, which a service that has a folder need not have

        parts = urlsplit(root)
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        endpoint: dict[str, Any] = {}
        if "endpoint_override" in options:
            url = f"{options.get('scheme', 'https')}://{options['endpoint_override']}"
            endpoint = {"endpoint": url, "client_options": {"allow_http": True}}
        if "region" in options:
            endpoint["region"] = options["region"]
        self._store = S3Store(parts.netloc, prefix=parts.path.strip("/") or None, **endpoint)

    def create(self, name: str, content: bytes) -> bool:
        """Put an object on the condition that there is none."""
        from obstore.exceptions import AlreadyExistsError

        try:
            self._store.put(name, content, mode="create")
        except AlreadyExistsError:
            return False
        return True

    def write(self, name: str, content: bytes) -> None:
        """Put an object."""
        self._store.put(name, content)

    def open(self, name: str) -> OpenFile:
        """Begin to get an object."""
        found = self._store.get(name)
        return OpenFile(int(found.meta["size"]), (bytes(chunk) for chunk in found))

    def size(self, name: str) -> int | None:
        """Ask for the head of an object."""
        try:
            return int(self._store.head(name)["size"])
        except FileNotFoundError:
            return None

    def part(self, name: str, start: int, length: int) -> bytes:
        """Get a range of an object."""
        return bytes(self._store.get_range(name, start=start, length=length))

    def newest(self, folder: str, name: str) -> str | None:
        """Return the match with the latest time of change."""
        listed = (file for page in self._store.list(folder) for file in page if file["path"].endswith(f"/{name}"))
        newest = max(listed, key=lambda file: file["last_modified"], default=None)
        return None if newest is None else newest["path"]
