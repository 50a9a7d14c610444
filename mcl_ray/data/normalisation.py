"""Mean and standard deviation of encoded images, measured on a sample. For images in memory, see `dataset`."""

from __future__ import annotations

import json

import numpy as np

from mcl_ray.data.dataset import ChannelStatistics, Statistics
from mcl_ray.data.decoding import DecodingError, decode_rgb
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
    name = f"statistics-{len(train)}-{'exif' if train.upright else 'stored'}"
    return index_cache.read(name, _parse, lambda: json.dumps(_measure(train)).encode())


def _parse(content: bytes) -> Statistics:
    mean, std = json.loads(content)
    return tuple(mean), tuple(std)


def _measure(train: EncodedSet) -> Statistics:
    sums = ChannelStatistics(3)
    for index in np.unique(np.linspace(0, len(train) - 1, MEASURED_IMAGES).astype(int)):
        try:
            pixels = np.asarray(decode_rgb(train.read(index), upright=train.upright))
        except (OSError, DecodingError):
            continue  # training reports images that fail to decode
        sums.add(pixels.transpose(2, 0, 1)[None])
    if not sums.count:
        raise DataError(f"training images must decode, but none of {len(train)} does, for example {train.name(0)}")
    return sums.result()
