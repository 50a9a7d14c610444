"""Encoded images to training views and evaluation images, uint8: what reader processes do while the device trains.

Normalisation is `augment`, on the device. What happens to an image depends on (seed, epoch, its place in the epoch)
alone, so any number of readers and of workers gives the same images.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from mcl_ray.config.spec import AugmentationSpec
from mcl_ray.data.augment import STREAM
from mcl_ray.data.encoded import EncodedSet

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for files that are none of its formats, cut off, or built to harm."""
EVALUATION_RESIZE = 256 / 224
"""Shorter side, over the side of the centre crop that is scored."""

# B images, C channels, S × S pixels


class Request(NamedTuple):
    """A batch that is wanted."""

    split: str
    indices: list[int]
    """Of the split's images."""
    chances: tuple[int, int, int] | None = None
    """Seed, epoch and place in the epoch of the first image, for training views; None: as they are scored."""


class Views(NamedTuple):
    """A batch that was read."""

    images: Tensor
    """[B, C, S, S] uint8; of several training views of each image, all first ones, then all second ones."""
    indices: Tensor
    """[B] int64, which images they are: not always those that were wanted."""
    unreadable: list[str]
    """Names of images that do not decode."""


class Reader(torch.utils.data.Dataset[Views]):
    """Decodes and augments whole batches; lives in as many processes as there are readers."""

    def __init__(self, splits: dict[str, EncodedSet], augmentation: AugmentationSpec, num_views: int = 1) -> None:
        self._splits, side = splits, next(iter(splits.values())).side
        self._num_views, self._train = num_views, training_view(augmentation, side)
        resize = v2.Resize(round(EVALUATION_RESIZE * side), antialias=True)
        self._score = v2.Compose([resize, v2.CenterCrop(side)])

    def __getitem__(self, request: Request) -> Views:
        """Read one batch.

        In the place of a training image that does not decode comes the next one of its class that does; of the images
        that are scored it is left out.
        """
        views: list[list[Tensor]] = [[] for _ in range(1 if request.chances is None else self._num_views)]
        indices, unreadable = list[int](), dict[str, None]()
        with torch.random.fork_rng(devices=[]):
            for place, index in enumerate(request.indices):
                decoded = self._decoded(request, index, unreadable)
                if decoded is None:
                    continue
                image, found = decoded
                if request.chances is not None:
                    torch.manual_seed(_state(*request.chances, place))
                for images in views:
                    images.append((self._score if request.chances is None else self._train)(image))
                indices.append(found)
        shape = self._splits[request.split].image_shape
        stacked = torch.stack([image for images in views for image in images]) if indices else _no_images(shape)
        return Views(stacked, torch.tensor(indices, dtype=torch.int64), list(unreadable))

    def _decoded(self, request: Request, index: int, unreadable: dict[str, None]) -> tuple[Tensor, int] | None:
        split = self._splits[request.split]
        for candidate in [index] if request.chances is None else _with_fellows(split.labels, index):
            try:
                return decode(split.read(candidate)), candidate
            except UNREADABLE:
                unreadable[split.name(candidate)] = None
        return None


def training_view(augmentation: AugmentationSpec, side: int) -> v2.Transform:
    """What makes a training view of an image uint8 [3, H, W]: [3, S, S].

    MoCo's views are those of its code: v1 (He et al., CVPR 2020, arXiv 1911.05722) and v2 (Chen et al., 2020, arXiv
    2003.04297). Its blur weighs all pixels; here the kernel is a tenth of the side wide, as in SimCLR (Chen et al.,
    ICML 2020, arXiv 2002.05709).
    """
    crop = v2.RandomResizedCrop(side, scale=(augmentation.min_area, 1.0), antialias=True)
    grey, steps = v2.RandomGrayscale(0.2), list[v2.Transform]()
    if augmentation.views == "moco_v1":
        steps = [grey, v2.ColorJitter(0.4, 0.4, 0.4, 0.4)]
    elif augmentation.views == "moco_v2":
        blur = v2.GaussianBlur(2 * (side // 20) + 1, (0.1, 2.0))
        steps = [v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8), grey, v2.RandomApply([blur], 0.5)]
    flip = [v2.RandomHorizontalFlip()] if augmentation.flip else []
    return v2.Compose([crop, *steps, *flip])


def _no_images(shape: tuple[int, int, int]) -> Tensor:
    return torch.empty(0, *shape, dtype=torch.uint8)


def decode(content: bytes) -> Tensor:
    """Red, green and blue, uint8 [3, H, W], of any image that Pillow reads; torchvision's own decoders are to go.

    Raises:
        UNREADABLE: it does not.
    """
    with Image.open(io.BytesIO(content)) as image:
        return cast("Tensor", functional.pil_to_tensor(image.convert("RGB")))


def _with_fellows(labels: NDArray[np.int64], index: int) -> Iterator[int]:
    """The image itself, then the others of its class, from the next one on."""
    yield index
    of_class = np.flatnonzero(labels == labels[index])
    yield from np.roll(of_class, -int(np.searchsorted(of_class, index)))[1:].tolist()


def _state(seed: int, epoch: int, start: int, place: int) -> int:
    sequence = np.random.SeedSequence(seed, spawn_key=(epoch, STREAM, start + place))
    return int(sequence.generate_state(1, np.uint64)[0])
