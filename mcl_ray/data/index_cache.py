"""What is worked out of a source of encoded images once, and kept beside the results: its index, its statistics.

A shelf is a folder named by where the source is and by a signature of what is there, so a source that has changed has
another. A shelf can be thrown away at any time.
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
    """The files that are kept of one source as it is now.

    Args:
        cache: folder of all shelves.
        source: where the images are.
        reading: how they are read, as far as that changes what is kept.
        signature: changes whenever the source does.
    """

    def __init__(self, cache: Path, source: Path, *, reading: str, signature: str) -> None:
        slug = re.sub(r"[^A-Za-z0-9_.]+", "-", source.name).strip("-.")[-40:] or "images"
        place = _digest(f"{source.resolve()}\n{reading}")
        self._cache, self._stem = cache, f"{slug}-{place}"
        self.folder = cache / f"{self._stem}-{_digest(signature)}"

    def path(self, name: str) -> Path:
        """Where the file `name` is, if it is there."""
        return self.folder / name

    def read(self, name: str, read: Callable[[Path], T], make: Callable[[Path], None]) -> T:
        """What `read` makes of the file `name`; of one that is damaged, or not there, once `make` has made it anew.

        Raises:
            DataError: it cannot be written.
        """
        try:
            return read(self.file(name, make))
        except (pa.ArrowInvalid, ValueError):
            self.path(name).unlink(missing_ok=True)
            return read(self.file(name, make))

    def file(self, name: str, make: Callable[[Path], None]) -> Path:
        """The file `name`, made by `make` if it is not there; nobody ever sees half of it.

        Raises:
            DataError: it cannot be written.
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
            rule = "what is known of the images must be kept beside the results"
            raise DataError(f"{rule}, but writing {file} failed: {error.strerror or error}") from error
        finally:
            temporary.unlink(missing_ok=True)
        self._remove_stale()
        return file

    def _remove_stale(self) -> None:
        """Whoever still reads a file that goes here keeps it until done."""
        for other in self._cache.glob(f"{self._stem}-*"):
            if other != self.folder:
                shutil.rmtree(other, ignore_errors=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]
