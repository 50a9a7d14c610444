"""Images that are decoded on demand: the files of a folder, or the rows of Parquet files, copied into one file.

`folder` and `parquet` find them; `views` decodes them, with torch.
"""

from __future__ import annotations

import mmap
import os
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

CHANNELS = 3
"""Number of channels of a decoded image: red, green and blue."""
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Encoded(Protocol):
    """Encoded images by index; pickles to a small size, for reader processes."""

    def read(self, index: int) -> bytes:
        """Read one encoded image.

        Raises:
            OSError: the image cannot be read.
        """

    def name(self, index: int) -> str:
        """Return the image's name, for warnings and error messages."""


@dataclass(frozen=True)
class ImageFiles:
    """Image files below a folder."""

    root: Path
    """The folder."""
    paths: pa.Array
    """Paths relative to the folder, as the bytes that the file system has."""

    def read(self, index: int) -> bytes:
        """Read the content of one file."""
        return (self.root / os.fsdecode(self.paths[index].as_py())).read_bytes()

    def name(self, index: int) -> str:
        """Return the path of one file, `printable`."""
        return printable(self.root / os.fsdecode(self.paths[index].as_py()))


def printable(path: str | Path) -> str:
    r"""Return a path as text of one line that can be printed and stored.

    Bytes that are not UTF-8 are written as \xNN, and characters that control a terminal as in a string of Python.
    """
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


@dataclass
class PackedImages:
    """Encoded images one after another in one file, which each process maps into memory when it first reads."""

    file: Path
    """The file."""
    offsets: NDArray[np.int64]
    """[n + 1], where each image begins, and where the last one ends."""
    checksums: NDArray[np.uint32]
    """[n], CRC-32 of each image."""
    source: str
    """Name of the source of the images, for messages."""
    _mapped: Any = field(default=None, repr=False)

    def read(self, index: int) -> bytes:
        """Read one image, and compare its checksum."""
        if self._mapped is None:
            with self.file.open("rb") as file:
                self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self.offsets[-1] else b""
        content: bytes = self._mapped[self.offsets[index] : self.offsets[index + 1]]
        if zlib.crc32(content) != self.checksums[index]:
            raise OSError(f"its copy in {self.file} is damaged; delete that file")
        return content

    def name(self, index: int) -> str:
        """Return the row's number and source."""
        return f"row {index} of {self.source}"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_mapped": None}


def pack(images: Iterable[bytes], file: Path) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """Write images one after another; return the offsets and checksums of `PackedImages`."""
    sizes, checksums = [0], list[int]()
    with file.open("wb") as opened:
        for image in images:
            opened.write(image)
            sizes.append(len(image))
            checksums.append(zlib.crc32(image))
    return np.cumsum(sizes, dtype=np.int64), np.array(checksums, np.uint32)


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedSet:
    """Encoded images with their labels."""

    encoded: Encoded
    """The images of all splits."""
    rows: NDArray[np.int64]
    """[n], index of each image in `encoded`."""
    labels: NDArray[np.int64]
    """[n], indices into `Dataset.class_names`."""
    side: int
    """Height and width of the square crops, in pixels."""
    upright: bool = True
    """True if images are turned by their EXIF orientation."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width in pixels of a decoded and cropped image."""
        return CHANNELS, self.side, self.side

    def subset(self, indices: NDArray[np.int64]) -> EncodedSet:
        """Return the images at `indices`, in this order; nothing is read or copied."""
        return replace(self, rows=self.rows[indices], labels=self.labels[indices])

    def read(self, index: int) -> bytes:
        """Read one encoded image.

        Raises:
            OSError: the image cannot be read.
        """
        return self.encoded.read(int(self.rows[index]))

    def name(self, index: int) -> str:
        """Return the image's name, for warnings and error messages."""
        return self.encoded.name(int(self.rows[index]))
