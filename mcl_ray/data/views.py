"""Decoding and augmentation of encoded images, uint8, in reader processes while the device trains.

`augment` normalises on the device. The augmentation of an image depends only on (seed, epoch, its position in the
epoch), so that the result is independent of the numbers of readers and workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from mcl_ray.config.spec import AugmentationSpec
from mcl_ray.data.augment import STREAM
from mcl_ray.data.decoding import DecodingError, decode_rgb
from mcl_ray.data.encoded import EncodedSet

EVALUATION_RESIZE = 256 / 224
"""Shorter side after resizing, relative to the side of the centre crop in evaluation."""

# B images, C channels, S × S pixels


class Request(NamedTuple):
    """A batch to read."""

    split: str
    """Name of the split."""
    indices: list[int]
    """[B], indices of the images in the split."""
    random_state: tuple[int, int, int] | None = None
    """(seed, epoch, position of the first image in the epoch) of training views; None for evaluation images."""


class Views(NamedTuple):
    """A batch that was read."""

    images: Tensor
    """[B, C, S, S] uint8; with several training views of each image, all first views, then all second views."""
    indices: Tensor
    """[B] int64, indices of the images in the split; images that failed to decode are replaced or left out."""
    unreadable: dict[str, str]
    """Names of images that failed to decode → reason."""


class Reader(torch.utils.data.Dataset[Views]):
    """Decodes and augments whole batches; each reader process has a copy.

    Args:
        splits: the images of each split.
        augmentation: augmentation of training views.
        num_views: number of training views of each image.
    """

    def __init__(self, splits: dict[str, EncodedSet], augmentation: AugmentationSpec, num_views: int = 1) -> None:
        self._splits, side = splits, next(iter(splits.values())).side
        self._num_views, self._train = num_views, training_view(augmentation, side)
        resize = v2.Resize(round(EVALUATION_RESIZE * side), antialias=True)
        self._evaluate = v2.Compose([resize, v2.CenterCrop(side)])

    def __getitem__(self, request: Request) -> Views:
        """Read one batch.

        A training image that fails to decode is replaced by the next image of its class that decodes; an evaluation
        image that fails to decode is left out.
        """
        is_training = request.random_state is not None
        views: list[list[Tensor]] = [[] for _ in range(self._num_views if is_training else 1)]
        indices, unreadable = list[int](), dict[str, str]()
        with torch.random.fork_rng(devices=[]):
            for position, index in enumerate(request.indices):
                decoded = self._decoded(request, index, unreadable)
                if decoded is None:
                    continue
                image, found = decoded
                if request.random_state is not None:
                    torch.manual_seed(_image_seed(*request.random_state, position))
                for images in views:
                    images.append((self._train if is_training else self._evaluate)(image))
                indices.append(found)
        shape = self._splits[request.split].image_shape
        stacked = torch.stack([image for images in views for image in images]) if indices else _no_images(shape)
        return Views(stacked, torch.tensor(indices, dtype=torch.int64), unreadable)

    def _decoded(self, request: Request, index: int, unreadable: dict[str, str]) -> tuple[Tensor, int] | None:
        """Decode an image or its replacement and return it with its index; None if there is none."""
        split = self._splits[request.split]
        for candidate in [index] if request.random_state is None else _candidates(split.labels, index):
            try:
                return decode(split.read(candidate), upright=split.upright), candidate
            except (OSError, DecodingError) as error:
                unreadable[split.name(candidate)] = str(error)
        return None


def training_view(augmentation: AugmentationSpec, side: int) -> v2.Transform:
    """Return the transform from an image uint8 [3, H, W] to a random training view [3, S, S].

    The views of MoCo are those of its published code: v1 (He et al., CVPR 2020, arXiv 1911.05722) and v2 (Chen et al.,
    2020, arXiv 2003.04297), except for the blur: its kernel spans a tenth of the side, as in SimCLR (Chen et al., ICML
    2020, arXiv 2002.05709), instead of all pixels.

    Args:
        augmentation: augmentation of the run.
        side: S.
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


def decode(content: bytes, *, upright: bool = True) -> Tensor:
    """Decode an image into red, green and blue, uint8 [3, H, W], by the rules of `decoding`.

    Raises:
        DecodingError: it does not decode.
    """
    return cast("Tensor", functional.pil_to_tensor(decode_rgb(content, upright=upright)))


def _candidates(labels: NDArray[np.int64], index: int) -> Iterator[int]:
    """Yield the index of the image itself, then those of the other images of its class, from the next one on."""
    yield index
    of_class = np.flatnonzero(labels == labels[index])
    yield from np.roll(of_class, -int(np.searchsorted(of_class, index)))[1:].tolist()


def _image_seed(seed: int, epoch: int, start: int, position: int) -> int:
    sequence = np.random.SeedSequence(seed, spawn_key=(epoch, STREAM, start + position))
    return int(sequence.generate_state(1, np.uint64)[0])
