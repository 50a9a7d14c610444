"""How bytes reach the disk: whole or not at all, one writer at a time, one folder per name.

What the bytes mean is `schema.py`; which folders there are is `reading.py`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from mcl_ray.errors import StoreError

Content = bytes | Callable[[BinaryIO], object]
LOCK_NAME = ".lock"
TEMPORARY_SUFFIX = ".tmp"


def write_atomically(path: Path, content: Content) -> None:
    """Replaces `path` by `content`, bytes or a function that writes to an open file.

    A reader sees the old file or the new one, never a part; so does the next start after a power cut.
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
    """Unlike the standard library's temporary files, this one follows the umask: colleagues can read results."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    return os.fdopen(descriptor, "wb")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bytes(path: Path) -> bytes:
    """The whole file.

    Raises:
        StoreError: it is not there or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise StoreError(f"results must be readable, but reading {path} failed: {error.strerror or error}") from error


def write_folder(folder: Path, files: Mapping[str, Content]) -> list[Path]:
    """Makes `folder`, which is missing or empty, with these files: whole or not at all.

    Raises:
        StoreError: it cannot be made, or there is something in it.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}-{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
    made = [parent for parent in folder.absolute().parents if not parent.exists()]
    try:
        temporary.mkdir(parents=True)
        for name, content in files.items():
            write_atomically(temporary / name, content)
        temporary.replace(folder)
        _sync_folder(folder.parent)
    except OSError as error:
        raise StoreError(f"results must be writable, but making {folder} failed: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):  # not empty, if all went well
                parent.rmdir()
    return [folder / name for name in files]


def check_writable(folder: Path, what: str = "the results folder") -> None:
    """Whether `folder` could be made and written, asked without making anything.

    Raises:
        StoreError: the nearest folder above it that exists cannot be written, or is no folder.
    """
    existing = next((path for path in (folder, *folder.absolute().parents) if path.exists()), folder)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        why = "cannot be written" if existing.is_dir() else "is not a folder"
        raise StoreError(f"{what} must be writable, but {folder} is not: {existing} {why}")


def ensure_writable(folder: Path) -> None:
    """Makes `folder` and proves that a file can be written in it, before any work is done for it.

    Raises:
        StoreError: it cannot be made, or nothing can be written in it.
    """
    with probe(folder):
        pass


@contextlib.contextmanager
def probe(folder: Path) -> Iterator[Path]:
    """A file in `folder`, which is made where it is missing; its name is new, and it is there until the context ends.

    Raises:
        StoreError: the folder cannot be made, or nothing can be written in it.
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
    """Makes `parent/stem-serial` with the first serial from `first_serial` on that nobody has."""
    ensure_writable(parent)
    serial = first_serial
    while True:
        folder = parent / f"{stem}-{serial}"
        try:
            folder.mkdir()
        except FileExistsError:
            serial += 1
        except OSError as error:
            raise StoreError(f"the results folder must be writable, but {folder} cannot be made: {error}") from error
        else:
            _sync_folder(parent)
            return folder


def remove_leftovers(folder: Path) -> None:
    """Removes the temporary files of writers that were killed. Only for the holder of the folder's lock."""
    for path in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        path.unlink(missing_ok=True)


def subfolders(parent: Path, pattern: str = "*") -> Iterator[Path]:
    """The folders in `parent` by name; none where there is no `parent`."""
    return (path for path in sorted(parent.glob(pattern)) if path.is_dir())


class FolderLock:
    """The right to write in a folder: held by one process at a time, freed by the kernel when its holder dies."""

    def __init__(self, folder: Path, *, name: str = LOCK_NAME, wait_s: float = 0.5) -> None:
        """Waits up to `wait_s`, since `is_locked` holds the lock for an instant."""
        self.folder, self._name, self._wait_s = folder, name, wait_s
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object has the lock."""
        return self._descriptor is not None

    def acquire(self) -> Self:
        """Takes the lock.

        Raises:
            StoreError: somebody else has it.
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

    def release(self) -> None:
        """Gives the lock back; nothing happens without it."""
        if self._descriptor is not None:
            # A forked child shares the descriptor: unlocking frees it in both, closing would not.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = None

    __enter__ = acquire

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def is_locked(folder: Path) -> bool:
    """Whether a process of this machine, or of one that shares the file system's locks, writes in `folder`."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def unwritten(folder: Path) -> Iterator[bool]:
    """Whether nobody writes in `folder`; if so, nobody begins to for as long as the context lasts."""
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
