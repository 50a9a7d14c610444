"""Data in a remote store, fetched once to this machine; whether it is what it should be, its readers verify."""

from __future__ import annotations

import fcntl
from pathlib import Path

from mcl_ray.data.cifar import ARCHIVE, MAX_BYTES
from mcl_ray.errors import DataError, StoreError
from mcl_ray.object_store import Uri, cache_folder, remote_at


def fetched(data: Uri) -> Path:
    """This machine's copy of an archive, named by its own URI or by that of the prefix it lies below.

    A copy is used again as long as it has the size of what the store holds: its checksum is verified at every use.

    Raises:
        DataError: the store does not answer, or there is no such archive.
    """
    try:
        for uri in (data, Uri(data.below(ARCHIVE))):
            size = remote_at(uri).size()
            if size is not None:
                return _copy(uri, size)
        remote_at(data).check_readable()
    except StoreError as error:
        raise DataError(str(error)) from error
    raise DataError(f"data in a store is an archive, or a prefix that holds {ARCHIVE}, but {data} is neither")


def _copy(uri: Uri, size: int) -> Path:
    if size > MAX_BYTES:
        raise DataError(f"{uri} may have {MAX_BYTES:,} bytes at most, but has {size:,}")
    folder = cache_folder("data", uri)
    file = folder / uri.partition("?")[0].rpartition("/")[2]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # whoever comes second finds it there
            if not file.exists() or file.stat().st_size != size:
                temporary = folder / f".{file.name}.tmp"
                temporary.write_bytes(remote_at(uri).read())
                temporary.replace(file)
    except OSError as error:
        raise DataError(f"the copy of {uri} in {folder} must be writable, but: {error.strerror or error}") from error
    return file
