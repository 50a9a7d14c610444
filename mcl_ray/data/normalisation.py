"""Mean and standard deviation of encoded images, measured on a sample. For images in memory, see `dataset`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from mcl_ray.data.dataset import ChannelStatistics, Statistics
from mcl_ray.data.encoded import EncodedSet
from mcl_ray.data.index_cache import IndexCache
from mcl_ray.errors import DataError

IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MEASURED_IMAGES = 1000
"""Number of training images in the sample, at equal intervals."""


def measured(train: EncodedSet, index_cache: IndexCache) -> Statistics:
    """Return the mean and standard deviation of the uncropped training images, measured once and then cached.

    Raises:
        DataError: none of the images decodes, a channel is constant, or the cache cannot be written.
    """
    return index_cache.read(f"statistics-{len(train)}.json", _read, lambda file: _write(file, _measure(train)))


def _read(file: Path) -> Statistics:
    mean, std = json.loads(file.read_text())
    return tuple(mean), tuple(std)


def _write(file: Path, statistics: Statistics) -> None:
    file.write_text(json.dumps(statistics))


def _measure(train: EncodedSet) -> Statistics:
    sums = ChannelStatistics(3)
    for index in np.unique(np.linspace(0, len(train) - 1, MEASURED_IMAGES).astype(int)):
        try:
            with Image.open(io.BytesIO(train.read(index))) as image:
                pixels = np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue  # training reports images that fail to decode
        sums.add(pixels.transpose(2, 0, 1)[None])
    if not sums.count:
        raise DataError(f"training images must decode, but none of {len(train)} does, for example {train.name(0)}")
    return sums.result()
