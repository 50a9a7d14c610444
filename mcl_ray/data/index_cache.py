"""Cache of a source of encoded images: its index and channel statistics, in the cache folder next to the results.

The folder of a source is named by the source's location and by a signature of its content, so that a changed source
has a new folder. Every file begins with its checksum, and is made again if it is damaged, with a warning. A folder can
be deleted at any time.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mcl_ray.errors import DataError

T = TypeVar("T")
_log = logging.getLogger(__name__)


class DamagedCacheError(ValueError):
    """A cached file is not what was written."""


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

    def read(self, name: str, parse: Callable[[bytes], T], make: Callable[[], bytes]) -> T:
        """Return the content of the file `name`, which is made if it does not exist, is damaged, or is out of date.

        Args:
            name: name of the file.
            parse: reads its content; ValueError means that it has to be made again.
            make: returns its content.

        Raises:
            DataError: the file cannot be written.
        """
        found = self.find(name, parse)
        if found is not None:
            return found
        content = make()
        self.store(name, content)
        return parse(content)

    def find(self, name: str, parse: Callable[[bytes], T]) -> T | None:
        """Return the content of the file `name`; None if there is none, or it is out of date or damaged.

        That it is damaged is a warning.

        Args:
            name: name of the file.
            parse: reads its content; DamagedCacheError and other ValueErrors mean that it has to be made again.
        """
        file = self.path(name)
        try:
            digest, _, content = file.read_bytes().partition(b"\n")
            if digest != _checksum(content):
                raise DamagedCacheError(f"{file} is damaged")
            return parse(content)
        except DamagedCacheError as error:
            _log.warning("%s, and is made again", error)
        except (OSError, ValueError):
            pass
        return None

    def store(self, name: str, content: bytes) -> None:
        """Write the file `name`, after its checksum.

        Raises:
            DataError: the file cannot be written.
        """
        self.write(name, lambda file: file.write_bytes(_checksum(content) + b"\n" + content))

    def write(self, name: str, make: Callable[[Path], object]) -> Path:
        """Write the file `name` with `make`, which is given a path; a rename makes it visible.

        Raises:
            DataError: the file cannot be written.
        """
        file = self.path(name)
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


def _checksum(content: bytes) -> bytes:
    """Return the first line of a file with this content."""
    return hashlib.sha256(content).hexdigest().encode()


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:10]
