"""Atomic writes of files and folders, folder locks, and unique folder names.

The meaning of the bytes is in `schema.py`; the layout of the folders is in `reader.py`.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from mcl_ray.errors import StoreError

Content = bytes | Callable[[BinaryIO], object]
LOCK_NAME = ".lock"
TEMPORARY_SUFFIX = ".tmp"
_log = logging.getLogger(__name__)


def write_atomically(path: Path, content: Content) -> None:
    """Replace `path` atomically and durably.

    A reader sees either the old file or the new one, never a part of it, also after a power failure.

    Args:
        path: The file to create or to replace.
        content: Bytes, or a function that writes them to an open file.

    Raises:
        StoreError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    try:
        with _open_new(temporary) as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"results must be writable, but writing {path} failed: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _open_new(path: Path) -> BinaryIO:
    """Create a file that follows the umask, unlike `tempfile`, so that other users can read results."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    return os.fdopen(descriptor, "wb")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bytes(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        StoreError: the file does not exist or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"results must be readable, but reading {path} failed: {error.strerror or error}") from error


def set_aside(path: Path, damage: str, instead: str) -> None:
    """Rename a damaged file, so that it can still be looked at, and log a warning.

    Args:
        path: The file.
        damage: What is wrong with it.
        instead: What is done without it.

    Raises:
        StoreError: it cannot be renamed.
    """
    aside = path.with_name(f"{path.name}.damaged-{secrets.token_hex(4)}")
    try:
        path.replace(aside)
    except OSError as error:
        raise StoreError(f"results must be writable, but renaming {path} failed: {error.strerror or error}") from error
    _log.warning("%s is damaged (%s) and was set aside as %s: %s", path, damage, aside.name, instead)


def write_folder(folder: Path, files: Mapping[str, Content]) -> list[Path]:
    """Create a folder with all its files atomically.

    Args:
        folder: The folder to create; it must be missing or empty.
        files: Name → content.

    Returns:
        The paths of the files, in the order given.

    Raises:
        StoreError: the folder cannot be created, or is not empty.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    new_parents = [parent for parent in folder.absolute().parents if not parent.exists()]
    try:
        temporary.mkdir(parents=True)
        for name, content in files.items():
            write_atomically(temporary / name, content)
        temporary.replace(folder)
        _sync_folder(folder.parent)
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"results must be writable, but creating {folder} failed: {reason}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for parent in new_parents:
            with contextlib.suppress(OSError):  # not empty after success
                parent.rmdir()
    return [folder / name for name in files]


def check_writable(folder: Path, what: str = "the results folder") -> None:
    """Check that `folder` can be created and written, without creating anything.

    Args:
        folder: An existing folder, or one to be created.
        what: How the error message names it.

    Raises:
        StoreError: its nearest existing parent cannot be written, or is not a folder.
    """
    existing = next((path for path in (folder, *folder.absolute().parents) if path.exists()), folder)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        reason = "cannot be written" if existing.is_dir() else "is not a folder"
        raise StoreError(f"{what} must be writable, but {folder} is not: {existing} {reason}")


def ensure_writable(folder: Path) -> None:
    """Create `folder` where it is missing, and check that a file can be written in it.

    Raises:
        StoreError: it cannot be created, or no file can be written in it.
    """
    with probe(folder):
        pass


@contextlib.contextmanager
def probe(folder: Path) -> Iterator[Path]:
    """Create a temporary file with a unique name in `folder`, and remove it when the context ends.

    The folder is created where it is missing.

    Raises:
        StoreError: the folder cannot be created, or no file can be written in it.
    """
    path = folder / f".probe.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _open_new(path) as file:
                file.write(b"x")
        except OSError as error:
            raise StoreError(
                f"the results folder must be writable, but {folder} is not: {error.strerror or error}"
            ) from error
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def claim_folder(parent: Path, stem: str, first_serial: int) -> Path:
    """Create `parent/stem-serial` with the first free serial from `first_serial` on.

    Raises:
        StoreError: `parent` cannot be written.
    """
    ensure_writable(parent)
    serial = first_serial
    while True:
        folder = parent / f"{stem}-{serial}"
        try:
            folder.mkdir()
        except FileExistsError:
            serial += 1
        except OSError as error:
            raise StoreError(f"the results folder must be writable, but {folder} cannot be created: {error}") from error
        else:
            _sync_folder(parent)
            return folder


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed writers; the caller must hold the folder's lock."""
    for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)


def subfolders(parent: Path, pattern: str = "*") -> Iterator[Path]:
    """Yield the folders in `parent` in the order of their names; nothing if `parent` does not exist."""
    try:
        with os.scandir(parent) as entries:
            names = sorted(entry.name for entry in entries if fnmatchcase(entry.name, pattern) and _is_folder(entry))
    except OSError:
        names = []
    return (parent / name for name in names)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False


class FolderLock:
    """An exclusive lock on a folder between processes; the kernel releases it when its holder dies."""

    def __init__(self, folder: Path, *, name: str = LOCK_NAME, wait_s: float = 0.5) -> None:
        """Create the lock without acquiring it; `wait_s` covers the instant for which `is_locked` holds the lock."""
        self.folder, self._name, self._wait_s = folder, name, wait_s
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """True while this object holds the lock."""
        return self._descriptor is not None

    def acquire(self) -> Self:
        """Acquire the lock.

        Raises:
            StoreError: another process holds it after `wait_s`, or the folder cannot be written.
        """
        try:
            descriptor = os.open(self.folder / self._name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise StoreError(f"the results folder must be writable, but {self.folder} is not: {error}") from error
        deadline = time.monotonic() + self._wait_s
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise StoreError(f"a results folder has one writer at a time, but another process writes {self.folder}")
            time.sleep(0.02)
        self._descriptor = descriptor
        return self

    def check_in_place(self) -> None:
        """Check that the folder is still where it was when the lock was acquired.

        Raises:
            StoreError: it was renamed or removed, and maybe another one took its place.
        """
        assert self._descriptor is not None, f"the lock of {self.folder} is not held"
        held = os.fstat(self._descriptor)
        try:
            found = (self.folder / self._name).stat()
        except OSError:
            found = None
        if found is None or (held.st_dev, held.st_ino) != (found.st_dev, found.st_ino):
            raise StoreError(
                f"a results folder must stay where it is while a process writes it, but {self.folder} was renamed or "
                "removed"
            )

    def release(self) -> None:
        """Release the lock; do nothing if it is not held."""
        if self._descriptor is not None:
            # A forked child shares the descriptor: unlocking releases the lock in both, closing would not.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None

    __enter__ = acquire

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def is_locked(folder: Path) -> bool:
    """Return whether a process holds the lock of `folder`, on this machine or on one that shares its file locks."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def block_writers(folder: Path) -> Iterator[bool]:
    """Hold a shared lock on `folder`, so that no process becomes its writer while the context lasts.

    Yields:
        False if a process writes in the folder already, in which case nothing is locked.
    """
    descriptor = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
