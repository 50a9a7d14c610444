"""Images that are decoded on demand: the files of a folder, or a column of an Arrow file.

`folder` and `parquet` find them; `views` decodes them, with torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

CHANNELS = 3
"""Number of channels of a decoded image: red, green and blue."""


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
    """Paths relative to the folder, strings."""

    def read(self, index: int) -> bytes:
        """Read the content of one file."""
        return Path(self.name(index)).read_bytes()

    def name(self, index: int) -> str:
        """Return the path of one file."""
        return str(self.root / self.paths[index].as_py())


@dataclass
class ArrowImages:
    """Images in the rows of an Arrow file, which each process maps into memory when it first reads."""

    file: Path
    """The Arrow file."""
    source: str
    """Name of the source of the rows, for messages."""
    _column: Any = field(default=None, repr=False)

    def read(self, index: int) -> bytes:
        """Read the image of one row."""
        if self._column is None:
            table = pa.ipc.open_file(pa.memory_map(str(self.file))).read_all()
            self._column = table.column("image")
        image: bytes | None = self._column[index].as_py()
        return image or b""

    def name(self, index: int) -> str:
        """Return the row's number and source."""
        return f"row {index} of {self.source}"

    def __getstate__(self) -> dict[str, Any]:
        return {"file": self.file, "source": self.source, "_column": None}


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

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width in pixels of a decoded and cropped image."""
        return CHANNELS, self.side, self.side

    def subset(self, indices: NDArray[np.int64]) -> EncodedSet:
        """Return the images at `indices`, in this order; nothing is read or copied."""
        return EncodedSet(encoded=self.encoded, rows=self.rows[indices], labels=self.labels[indices], side=self.side)

    def read(self, index: int) -> bytes:
        """Read one encoded image.

        Raises:
            OSError: the image cannot be read.
        """
        return self.encoded.read(int(self.rows[index]))

    def name(self, index: int) -> str:
        """Return the image's name, for warnings and error messages."""
        return self.encoded.name(int(self.rows[index]))
