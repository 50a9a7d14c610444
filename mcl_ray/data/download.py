"""Download of a data archive from a remote store to this machine; the readers of the archive verify its checksum."""

from __future__ import annotations

import fcntl
import hashlib
from pathlib import Path

from mcl_ray.data.archive import MAX_BYTES
from mcl_ray.data.cifar import CIFAR100, Layout
from mcl_ray.errors import DataError, StoreError
from mcl_ray.object_store import Uri, cache_folder, remote_at


def download(data: Uri, layout: Layout = CIFAR100) -> Path:
    """Download an archive, unless this machine has a copy, and return the copy's path.

    A copy is reused as long as its size is that of the object in the store, and its checksum that of the download.

    Args:
        data: URI of the archive, or of the prefix below which it is stored.
        layout: layout of the archive, with its name.

    Raises:
        DataError: the store does not respond, there is no such archive, or the copy cannot be written.
    """
    try:
        for uri in (data, Uri(data.below(layout.archive))):
            size = remote_at(uri).size()
            if size is not None:
                return _copy(uri, size)
        remote_at(data).check_readable()
    except StoreError as error:
        raise DataError(str(error)) from error
    raise DataError(
        f"data in a store must be an archive, or a prefix that holds {layout.archive}, but {data} is neither"
    )


def _copy(uri: Uri, size: int) -> Path:
    if size > MAX_BYTES:
        raise DataError(f"{uri} must have at most {MAX_BYTES:,} bytes, but has {size:,}")
    folder = cache_folder("data", uri)
    file = folder / uri.partition("?")[0].rpartition("/")[2]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # a second process waits for the first one's download
            if not _is_whole(file, size):
                content, temporary = remote_at(uri).read(), folder / f".{file.name}.tmp"
                temporary.write_bytes(content)
                temporary.replace(file)
                _digest_file(file).write_bytes(hashlib.sha256(content).digest())
    except OSError as error:
        raise DataError(f"the cache {folder} of {uri} must be writable, but got: {error.strerror or error}") from error
    return file


def _is_whole(file: Path, size: int) -> bool:
    """Return whether a copy is as it was downloaded."""
    digest = _digest_file(file)
    if not file.exists() or not digest.exists() or file.stat().st_size != size:
        return False
    return hashlib.sha256(file.read_bytes()).digest() == digest.read_bytes()


def _digest_file(file: Path) -> Path:
    return file.with_name(f".{file.name}.sha256")
