"""Download of a data archive from a remote store to this machine; the readers of the archive verify its checksum."""

from __future__ import annotations

import fcntl
from pathlib import Path

from mcl_ray.data.cifar import ARCHIVE, MAX_BYTES
from mcl_ray.errors import DataError, StoreError
from mcl_ray.object_store import Uri, cache_folder, remote_at


def download(data: Uri) -> Path:
    """Download an archive, unless this machine has a copy, and return the copy's path.

    A copy is reused as long as its size is that of the object in the store; its checksum is verified at every use.

    Args:
        data: URI of the archive, or of the prefix below which it is stored.

    Raises:
        DataError: the store does not respond, there is no such archive, or the copy cannot be written.
    """
    try:
        for uri in (data, Uri(data.below(ARCHIVE))):
            size = remote_at(uri).size()
            if size is not None:
                return _copy(uri, size)
        remote_at(data).check_readable()
    except StoreError as error:
        raise DataError(str(error)) from error
    raise DataError(f"data in a store must be an archive, or a prefix that holds {ARCHIVE}, but {data} is neither")


def _copy(uri: Uri, size: int) -> Path:
    if size > MAX_BYTES:
        raise DataError(f"{uri} must have at most {MAX_BYTES:,} bytes, but has {size:,}")
    folder = cache_folder("data", uri)
    file = folder / uri.partition("?")[0].rpartition("/")[2]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a second process waits for the first one's download
            if not file.exists() or file.stat().st_size != size:
                temporary = folder / f".{file.name}.tmp"
                temporary.write_bytes(remote_at(uri).read())
                temporary.replace(file)
    except OSError as error:
        raise DataError(f"the cache {folder} of {uri} must be writable, but got: {error.strerror or error}") from error
    return file
