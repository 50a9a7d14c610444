"""Client of an S3-compatible object store: reads and writes whole objects, with timeouts and plain errors.

`mcl_ray.results.remote` decides which objects a run or a sweep has, and when they are copied.
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

CONNECT_TIMEOUT_S, REQUEST_TIMEOUT_S = 3.0, 60.0
ATTEMPTS = 4
"""Maximum number of attempts of a request, with exponential backoff of a few seconds at most."""


class Uri(str):
    """URI of a remote store, or of something in it: `s3://bucket/prefix?endpoint_override=host:port&scheme=http`."""

    __slots__ = ()

    def __new__(cls, text: str) -> Uri:
        """Check the form of a URI; `Remote` checks that the store exists.

        Raises:
            ValueError: the text does not begin with `scheme://`.
        """
        if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
            raise ValueError(f"a URI must have a scheme, for example s3://bucket/prefix, but got {text!r}")
        return super().__new__(cls, text)

    def below(self, relative: str) -> str:
        """Return the URI of a path relative to this one; the URI's options are kept."""
        location, mark, options = self.partition("?")
        return f"{location.rstrip('/')}/{relative}{mark}{options}" if relative not in ("", ".") else str(self)


class Remote:
    """The objects below a URI, by their names relative to it.

    Creating one sends at most a request for the bucket's region.

    Args:
        uri: URI of an S3-compatible store.

    Raises:
        StoreError: the URI has another scheme, contains credentials, or names no bucket.
    """

    def __init__(self, uri: Uri) -> None:
        self.uri = uri
        self.filesystem, self.root = _filesystem(uri)

    def check_readable(self) -> None:
        """Check that the store responds and the bucket exists.

        Raises:
            StoreError: the store does not respond, the bucket does not exist, or access to it is denied.
        """
        bucket = self.root.partition("/")[0]
        with self._plain_errors("access to the bucket of"):
            missing = self.filesystem.get_file_info(bucket).type.name == "NotFound"
        if missing:
            raise StoreError(f"the bucket must exist, but there is no bucket {bucket} for {self.uri}")

    def check_writable(self) -> None:
        """Check that an object below this URI can be written and deleted, by doing so.

        Raises:
            StoreError: it cannot.
        """
        self.check_readable()
        name = f".probe-{secrets.token_hex(8)}"
        self.write(name, b"x")
        self.delete(name)

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return the size in bytes of every object below a folder, by name; empty if there is no such folder.

        Raises:
            StoreError: the store does not respond, or denies access.
        """
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self.path(folder), allow_not_found=True, recursive=True)
        with self._plain_errors("the listing of", folder):
            found = self.filesystem.get_file_info(selector)
        start = len(self.root) + 1
        return {info.path[start:]: info.size for info in found if info.type == FileType.File}

    def size(self) -> int | None:
        """Return the size in bytes of the object at the URI itself; None if there is no such object.

        Raises:
            StoreError: the store does not respond, or denies access.
        """
        with self._plain_errors("access to"):
            info = self.filesystem.get_file_info(self.root)
        return info.size if info.type.name == "File" else None

    def read(self, name: str = "") -> bytes:
        """Return the content of one version of an object.

        pyarrow requests the size first and then that many bytes; the object may be replaced between the two requests.

        Raises:
            StoreError: the object does not exist or keeps changing, or the store does not respond or denies access.
        """
        for _ in range(ATTEMPTS):
            with self._plain_errors("the read of", name):
                with self.filesystem.open_input_file(self.path(name)) as file:
                    content = bytes(file.read_at(file.size(), 0))
                if len(content) == self.filesystem.get_file_info(self.path(name)).size:
                    return content
        raise StoreError(f"an object must not change during a read, but {self.uri.below(name)} keeps changing")

    def write(self, name: str, content: bytes) -> None:
        """Create or replace an object in one request; the content is never compressed, whatever its name.

        Raises:
            StoreError: the store does not respond, or denies access.
        """
        # pyarrow would compress an object whose name ends in .gz
        open_stream = partial(self.filesystem.open_output_stream, self.path(name), compression=None)
        with self._plain_errors("the write of", name), open_stream() as stream:
            stream.write(content)

    def delete(self, name: str) -> None:
        """Delete an object, if it exists.

        Raises:
            StoreError: the store does not respond, or denies access.
        """
        with self._plain_errors("the deletion of", name), suppress(FileNotFoundError):
            self.filesystem.delete_file(self.path(name))

    def delete_below(self, folder: str) -> None:
        """Delete all objects below a folder.

        Raises:
            StoreError: the store does not respond, or denies access.
        """
        with self._plain_errors("the deletion of", folder), suppress(FileNotFoundError):
            self.filesystem.delete_dir(self.path(folder))

    def path(self, name: str) -> str:
        """Return the full path of an object in the file system: `bucket/prefix/name`."""
        return f"{self.root}/{name}" if name else self.root

    @contextmanager
    def _plain_errors(self, action: str, name: str = "") -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise StoreError(f"an object must exist to be read, but there is no {self.uri.below(name)}") from error
        except OSError as error:
            raise StoreError(
                f"the store must respond, have its bucket and grant access, but {action} {self.uri.below(name)} "
                f"failed: {error}"
            ) from error


@lru_cache(maxsize=8)
def remote_at(uri: Uri) -> Remote:
    """Return the `Remote` at a URI; one per process, so that its connections are reused.

    Raises:
        StoreError: as `Remote`.
    """
    return Remote(uri)


def cache_folder(kind: str, uri: Uri) -> Path:
    """Return the folder of this machine's copy of the objects at a URI, which may not exist yet.

    Its name is a readable part of the URI followed by a digest of it.
    """
    location = uri.partition("?")[0].partition("://")[2]
    slug = re.sub(r"[^A-Za-z0-9_.]+", "-", location).strip("-.")[-60:]
    return caches(kind) / f"{slug}-{hashlib.sha256(uri.encode()).hexdigest()[:10]}"


def caches(kind: str) -> Path:
    """Return the folder of all copies of a kind, below XDG_CACHE_HOME or ~/.cache of this node.

    On a cluster, each node uses its own environment for this, not that of the process which started the run.
    """
    configured = os.environ.get("XDG_CACHE_HOME")
    try:
        home = Path(configured) if configured else Path.home() / ".cache"
    except RuntimeError:  # a user without a home folder
        home = Path(tempfile.gettempdir())
    return home.resolve() / "mcl-ray" / kind


def _filesystem(uri: Uri) -> tuple[Any, str]:
    """Return pyarrow's file system for a URI, with timeouts, and the path within it."""
    parts = urlsplit(uri)
    if parts.scheme != "s3":
        raise StoreError(f"a remote store must be S3-compatible, as s3://bucket/prefix, but got {uri}")
    if "@" in parts.netloc:
        raise StoreError(
            "a URI must not contain credentials, but the URI of bucket "
            f"{parts.netloc.rpartition('@')[2]} does; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use AWS's "
            "own configuration files"
        )
    import pyarrow as pa
    from pyarrow.fs import AwsStandardS3RetryStrategy, FileSystem, S3FileSystem

    try:
        filesystem, root = FileSystem.from_uri(str(uri))
    except (OSError, pa.ArrowException, ValueError) as error:
        raise StoreError(
            f"a store's URI must have the form s3://bucket/prefix?option=value, but got {uri}: {error}"
        ) from error
    root = root.strip("/")
    if not root:
        raise StoreError(f"a store's URI must name a bucket, as s3://bucket/prefix, but {uri} names none")
    _, (options,) = filesystem.__reduce__()  # options that pyarrow took from the URI and from AWS_ENDPOINT_URL
    options |= {
        "region": options["region"] or None,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "request_timeout": REQUEST_TIMEOUT_S,
        "retry_strategy": AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        "allow_delayed_open": True,  # small objects in one request
    }
    return S3FileSystem(**options), root
