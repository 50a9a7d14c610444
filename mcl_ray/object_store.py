"""A remote store, S3 or what speaks its language: whole objects under names, with bounded waits and plain errors.

Which objects a run or a sweep has, and when they come and go, is `results/remote/pull.py`.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mcl_ray.errors import StoreError

CONNECTS_WITHIN_S, ANSWERS_WITHIN_S = 3.0, 60.0
ATTEMPTS = 4
"""How often a request is tried, with growing pauses of a few seconds at most."""


class Uri(str):
    """Where a remote store, or something in it, is: `s3://bucket/prefix?endpoint_override=host:port&scheme=http`."""

    __slots__ = ()

    def __new__(cls, text: str) -> Uri:
        """Take a text that is no path; whether a store is there, `Remote` finds out.

        Raises:
            ValueError: it has no `scheme://`.
        """
        if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
            raise ValueError(f"a URI has a scheme, as s3://bucket/prefix, but got {text!r}")
        return super().__new__(cls, text)

    def below(self, relative: str) -> str:
        """The URI of what is below this one."""
        place, mark, options = self.partition("?")
        return f"{place.rstrip('/')}/{relative}{mark}{options}" if relative not in ("", ".") else str(self)


class Remote:
    """The objects below a URI, by their names relative to it."""

    def __init__(self, uri: Uri) -> None:
        """Reads the URI; nothing but its region may be asked of anybody yet.

        Raises:
            StoreError: it is none of an S3-like store.
        """
        self.uri = uri
        self.filesystem, self.root = _filesystem(uri)

    def check_readable(self) -> None:
        """Whether the store answers, and has the bucket.

        Raises:
            StoreError: it does not, or the bucket may not be looked at.
        """
        bucket = self.root.partition("/")[0]
        with self._plain_errors("looking at the bucket of"):
            missing = self.filesystem.get_file_info(bucket).type.name == "NotFound"
        if missing:
            raise StoreError(f"the bucket of a store must be there, but of {self.uri} there is no bucket {bucket}")

    def check_writable(self) -> None:
        """Whether an object can be written and removed here, known by doing so.

        Raises:
            StoreError: it cannot.
        """
        self.check_readable()
        name = f".probe-{secrets.token_hex(8)}"
        self.write(name, b"x")
        self.delete(name)

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Name → bytes of every object below a folder; none where there is no folder."""
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self.path(folder), allow_not_found=True, recursive=True)
        with self._plain_errors("listing", folder):
            found = self.filesystem.get_file_info(selector)
        start = len(self.root) + 1
        return {info.path[start:]: info.size for info in found if info.type == FileType.File}

    def size(self) -> int | None:
        """Bytes of the object that the URI itself names; None where there is none."""
        with self._plain_errors("looking at"):
            info = self.filesystem.get_file_info(self.root)
        return info.size if info.type.name == "File" else None

    def read(self, name: str = "") -> bytes:
        """A whole object, of one version.

        pyarrow asks for the size first and then for so many bytes, between which another version may have come.
        """
        for _ in range(ATTEMPTS):
            with self._plain_errors("reading", name):
                with self.filesystem.open_input_file(self.path(name)) as file:
                    content = bytes(file.read_at(file.size(), 0))
                if len(content) == self.filesystem.get_file_info(self.path(name)).size:
                    return content
        raise StoreError(f"a store must hold an object for as long as it is read, but {self.uri.below(name)} changes")

    def write(self, name: str, content: bytes) -> None:
        """Replaces an object at once; as it is: pyarrow would pack what is called .gz."""
        open_stream = partial(self.filesystem.open_output_stream, self.path(name), compression=None)
        with self._plain_errors("writing", name), open_stream() as stream:
            stream.write(content)

    def delete(self, name: str) -> None:
        """Removes an object; nothing happens where there is none."""
        with self._plain_errors("deleting", name), suppress(FileNotFoundError):
            self.filesystem.delete_file(self.path(name))

    def delete_below(self, folder: str) -> None:
        """Removes everything below a folder."""
        with self._plain_errors("deleting", folder), suppress(FileNotFoundError):
            self.filesystem.delete_dir(self.path(folder))

    def path(self, name: str) -> str:
        """The name of an object as the file system has it."""
        return f"{self.root}/{name}" if name else self.root

    @contextmanager
    def _plain_errors(self, doing: str, name: str = "") -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise StoreError(f"a store must hold what is read, but {self.uri.below(name)} is not there") from error
        except OSError as error:
            raise StoreError(
                f"a store must answer, know its bucket and let this process in, but {doing} {self.uri.below(name)} "
                f"failed: {error}"
            ) from error


@lru_cache(maxsize=8)
def remote_at(uri: Uri) -> Remote:
    """The store at a URI; its connections are shared by all of a process."""
    return Remote(uri)


def cache_folder(kind: str, uri: Uri) -> Path:
    """Where this machine keeps its copy of what is at a URI, made or not: one folder each, readable names first."""
    place = uri.partition("?")[0].partition("://")[2]
    slug = re.sub(r"[^A-Za-z0-9_.]+", "-", place).strip("-.")[-60:]
    return caches(kind) / f"{slug}-{hashlib.sha256(uri.encode()).hexdigest()[:10]}"


def caches(kind: str) -> Path:
    """The folder of all copies of a kind; where caches are, the machine itself says, not the one that commands."""
    told = os.environ.get("XDG_CACHE_HOME")
    try:
        home = Path(told) if told else Path.home() / ".cache"
    except RuntimeError:  # a user without a home
        home = Path(tempfile.gettempdir())
    return home.resolve() / "mcl-ray" / kind


def _filesystem(uri: Uri) -> tuple[Any, str]:
    """What pyarrow reads in a URI, with waits that end."""
    parts = urlsplit(uri)
    if parts.scheme != "s3":
        raise StoreError(f"a remote store is S3-like, as s3://bucket/prefix, but got {uri}")
    if "@" in parts.netloc:
        raise StoreError(
            "credentials are not for command lines: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY hold them, or AWS's "
            f"own files, but the URI of bucket {parts.netloc.rpartition('@')[2]} has some"
        )
    import pyarrow as pa
    from pyarrow.fs import AwsStandardS3RetryStrategy, FileSystem, S3FileSystem

    try:
        filesystem, root = FileSystem.from_uri(str(uri))
    except (OSError, pa.ArrowException, ValueError) as error:
        raise StoreError(f"a store is named as s3://bucket/prefix?option=value, but with {uri}: {error}") from error
    root = root.strip("/")
    if not root:
        raise StoreError(f"a store has a bucket, as s3://bucket/prefix, but {uri} names none")
    _, (options,) = filesystem.__reduce__()  # what pyarrow read in the URI and in AWS_ENDPOINT_URL
    options |= {
        "region": options["region"] or None,
        "connect_timeout": CONNECTS_WITHIN_S,
        "request_timeout": ANSWERS_WITHIN_S,
        "retry_strategy": AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        "allow_delayed_open": True,  # small objects in one request
    }
    return S3FileSystem(**options), root
