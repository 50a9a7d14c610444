"""Cache of a source of encoded images: its index and channel statistics, in the cache folder next to the results.

The folder of a source is named by the source's location and by a signature of its content, so that a changed source
has a new folder. A folder can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from mcl_ray.errors import DataError

T = TypeVar("T")


class IndexCache:
    """Cached files of one source in its current state.

    Args:
        cache: folder of all caches.
        source: folder or file of the images.
        reading: options of reading on which the cached files depend.
        signature: text that changes whenever the source does.
    """

    def __init__(self, cache: Path, source: Path, *, reading: str, signature: str) -> None:
        slug = re.sub(r"[^A-Za-z0-9_.]+", "-", source.name).strip("-.")[-40:] or "images"
        location = _digest(f"{source.resolve()}\n{reading}")
        self._cache, self._stem = cache, f"{slug}-{location}"
        self.folder = cache / f"{self._stem}-{_digest(signature)}"

    def path(self, name: str) -> Path:
        """Return the path of the file `name`, which may not exist."""
        return self.folder / name

    def read(self, name: str, read: Callable[[Path], T], make: Callable[[Path], None]) -> T:
        """Return the content of the file `name`, which is created if it does not exist or is damaged.

        Args:
            name: name of the file.
            read: reads the file; ArrowInvalid and ValueError mean that it is damaged.
            make: writes the file at a given path.

        Raises:
            DataError: the file cannot be written.
        """
        try:
            return read(self.file(name, make))
        except (pa.ArrowInvalid, ValueError):
            self.path(name).unlink(missing_ok=True)
            return read(self.file(name, make))

    def file(self, name: str, make: Callable[[Path], None]) -> Path:
        """Return the path of the file `name`; `make` writes it if it does not exist, and a rename makes it visible.

        Raises:
            DataError: the file cannot be written.
        """
        file = self.path(name)
        if file.exists():
            return file
        temporary = self.folder / f".{name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            make(temporary)
            temporary.replace(file)
        except OSError as error:
            raise DataError(
                f"the cache of image indices must be writable, but writing {file} failed: {error.strerror or error}"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        self._remove_stale()
        return file

    def _remove_stale(self) -> None:
        """Delete the folders of earlier states of the source; a process that has one of their files open keeps it."""
        for other in self._cache.glob(f"{self._stem}-*"):
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]
