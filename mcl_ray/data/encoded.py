"""Images that stay encoded until they are wanted: the files of a folder, or a column of an Arrow file.

Where they are found is `folder` and `parquet`; decoding them, with torch, is `views`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

CHANNELS = 3
"""Whatever is decoded becomes red, green and blue."""


class Encoded(Protocol):
    """Images by number, as small to send to another process as their names are."""

    def read(self, index: int) -> bytes:
        """The encoded image.

        Raises:
            OSError: it cannot be read.
        """

    def name(self, index: int) -> str:
        """What to call it when it turns out not to decode."""


@dataclass(frozen=True)
class ImageFiles:
    """Files below a folder."""

    root: Path
    paths: pa.Array
    """Relative to the folder."""

    def read(self, index: int) -> bytes:
        """The file's content."""
        return Path(self.name(index)).read_bytes()

    def name(self, index: int) -> str:
        """Its path."""
        return str(self.root / self.paths[index].as_py())


@dataclass
class ArrowImages:
    """The rows of an Arrow file, which each process that reads it maps into memory rather than copies."""

    file: Path
    source: str
    """Where the rows came from, for people."""
    _column: Any = field(default=None, repr=False)

    def read(self, index: int) -> bytes:
        """The row's image."""
        if self._column is None:
            table = pa.ipc.open_file(pa.memory_map(str(self.file))).read_all()
            self._column = table.column("image")
        image: bytes | None = self._column[index].as_py()
        return image or b""

    def name(self, index: int) -> str:
        """Where the row is."""
        return f"row {index} of {self.source}"

    def __getstate__(self) -> dict[str, Any]:
        return {"file": self.file, "source": self.source, "_column": None}


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedSet:
    """Encoded images and their classes."""

    encoded: Encoded
    rows: NDArray[np.int64]
    """[n], where in `encoded` each image is."""
    labels: NDArray[np.int64]
    """[n], positions in `Dataset.class_names`."""
    side: int
    """Of the square to which images are cropped, in pixels."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width, once decoded and cropped."""
        return CHANNELS, self.side, self.side

    def subset(self, indices: NDArray[np.int64]) -> EncodedSet:
        """The images at `indices`, in that order."""
        return EncodedSet(encoded=self.encoded, rows=self.rows[indices], labels=self.labels[indices], side=self.side)

    def read(self, index: int) -> bytes:
        """One image, encoded."""
        return self.encoded.read(int(self.rows[index]))

    def name(self, index: int) -> str:
        """What to call it."""
        return self.encoded.name(int(self.rows[index]))
