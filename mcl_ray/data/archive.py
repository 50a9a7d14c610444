"""Archives of a few files, unpacked in memory: .tar, plain or packed by gzip, bzip2 or xz, and .zip."""

from __future__ import annotations

import bz2
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from mcl_ray.errors import DataError

SUFFIXES = (".tar.gz", ".tgz", ".tar", ".tar.xz", ".tar.bz2", ".zip")
MAX_BYTES = 2**30
"""Maximum size of an archive, of its unpacked content, and of each file: six times CIFAR-100."""
_MEMORY_BYTES = 2**27
"""Memory of a decompressor of xz; its strongest preset takes half of it."""
_GZIP, _BZIP2, _XZ, _ZIP = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"PK"

DAMAGES = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(ValueError, EOFError, OSError, RuntimeError),
)
"""Errors that the libraries raise for damaged archives; of RuntimeError, also its kinds RecursionError and
NotImplementedError."""


class _Decompressor(Protocol):
    """The interface that the decompressors of gzip, bzip2 and xz have in common."""

    @property
    def eof(self) -> bool:
        """Whether the end of a member has been reached."""

    @property
    def unused_data(self) -> bytes:
        """What follows the member."""

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        """Return the unpacked data, at most `max_length` bytes."""


class _Member(NamedTuple):
    folder: str
    name: str
    is_plain: bool
    read: Callable[[], bytes]


def is_gzip(packed: bytes) -> bool:
    """Return whether an archive is packed by gzip, as most are."""
    return packed.startswith(_GZIP)


def unpack_files(packed: bytes, folder: str, names: Sequence[str], archive: Path) -> dict[str, bytes]:
    """Return the content of the files `names`; nothing is written, and other members are ignored.

    Args:
        packed: the archive.
        folder: the folder that has the files; if there is none of this name, any folder that has all of them.
        names: names of the files.
        archive: path of the archive, for error messages.

    Raises:
        DataError: the archive is damaged, unpacks to too much, or lacks a file.
    """
    try:
        members = [member for member in _members(packed, archive) if member.name in names]
        chosen = [member for member in members if member.folder == folder] or _of_other_folder(members, names)
        files: dict[str, bytes] = {}
        for member in chosen:
            if member.name in files or not member.is_plain:
                raise DataError(f"{archive} must hold {member.folder}/{member.name} once, as a plain file")
            files[member.name] = member.read()
    except DAMAGES as error:
        raise DataError(f"{archive} is damaged: {error}") from error
    absent = [f"{folder}/{name}" for name in names if name not in files]
    if absent:
        raise DataError(f"{archive} must hold {', '.join(f'{folder}/{name}' for name in names)}, but lacks {absent[0]}")
    return files


def _of_other_folder(members: list[_Member], names: Sequence[str]) -> list[_Member]:
    """Return the members of the only folder that has all files."""
    folders: dict[str, set[str]] = {}
    for member in members:
        folders.setdefault(member.folder, set()).add(member.name)
    complete = [folder for folder, found in folders.items() if found >= set(names)]
    return [member for member in members if complete == [member.folder]]


def _members(packed: bytes, archive: Path) -> Iterator[_Member]:
    if packed.startswith(_ZIP):
        yield from _zip_members(packed, archive)
    else:
        yield from _tar_members(_unpacked(packed, archive))


def _zip_members(packed: bytes, archive: Path) -> Iterator[_Member]:
    opened = zipfile.ZipFile(io.BytesIO(packed))
    for info in opened.infolist():
        folder, name = _split(info.filename)

        def read(info: zipfile.ZipInfo = info) -> bytes:
            content = opened.open(info).read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise DataError(f"{archive} must unpack to at most {MAX_BYTES:,} bytes, but has more")
            return content

        yield _Member(folder, name, not info.is_dir(), read)


def _tar_members(unpacked: bytes) -> Iterator[_Member]:
    with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as tar:
        for info in tar:
            folder, name = _split(info.name)
            is_plain = info.isreg() and not info.issparse()

            def read(info: tarfile.TarInfo = info) -> bytes:
                return unpacked[info.offset_data : info.offset_data + info.size]

            yield _Member(folder, name, is_plain, read)


def _split(path: str) -> tuple[str, str]:
    folder, _, name = path.removeprefix("./").rpartition("/")
    return folder, name


def _unpacked(packed: bytes, archive: Path) -> bytes:
    """Return the tar that an archive packs, in any number of members one after another."""
    if packed.startswith(_BZIP2):
        return _decompressed(packed, bz2.BZ2Decompressor, archive)
    if packed.startswith(_XZ):
        return _decompressed(packed, lambda: lzma.LZMADecompressor(memlimit=_MEMORY_BYTES), archive)
    if packed[257:262] == b"ustar":
        return packed
    return _decompressed(packed, lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 16), archive)


def _decompressed(packed: bytes, decompressor: Callable[[], _Decompressor], archive: Path) -> bytes:
    parts, left, rest = list[bytes](), MAX_BYTES, packed
    while rest or not parts:
        member = decompressor()
        try:
            parts.append(member.decompress(rest, left + 1))
        except (zlib.error, lzma.LZMAError, OSError, ValueError) as error:
            raise DataError(f"{archive} is damaged, or no {', '.join(SUFFIXES)}: {error}") from error
        left -= len(parts[-1])
        if left < 0:
            raise DataError(f"{archive} must unpack to at most {MAX_BYTES:,} bytes, but has more")
        if not member.eof:
            raise DataError(f"{archive} is damaged: it is cut short after {len(packed):,} bytes")
        rest = member.unused_data.lstrip(b"\0")  # padding, as tapes and xz have
    return b"".join(parts)
