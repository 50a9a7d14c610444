"""Batches of a split's images on the training device: the protocol, and its implementation for images in memory.

`streaming` implements it for encoded images. B images of this worker, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mcl_ray.data.augment import Augment, epoch_generator
from mcl_ray.data.dataset import ImageSet
from mcl_ray.distributed import BatchShards


class ImageBatch(NamedTuple):
    """Images of one batch and their indices."""

    images: Tensor
    """[B, C, H, W] float32, normalised; with two training views of each image [2B, …], first views, then second."""
    indices: Tensor
    """[B] int64, indices of the images in the split."""


class ImageLoader(Protocol):
    """Loader of one split."""

    labels: Tensor
    """[n] int64, on the device."""

    @property
    def unreadable(self) -> frozenset[str]:
        """Names of the images of all splits that failed to decode on this worker so far."""

    def __len__(self) -> int:
        """Return the number of images, n."""

    def training(
        self, indices_SB: NDArray[np.int64], seed: int, epoch: int, shares: BatchShards
    ) -> Iterator[ImageBatch]:
        """Yield this worker's part of each of S batches, augmented; reproducible from (seed, epoch).

        Args:
            indices_SB: indices of this worker's images in the split, [S, B].
            seed: the run's seed.
            epoch: the epoch, from 0.
            shares: split of each batch over the workers.
        """

    def scoring(self, batches: Sequence[slice | Sequence[int]]) -> Iterator[ImageBatch]:
        """Yield the images of each slice of the split, or with these indices, unaugmented, for evaluation."""


class DeviceImages:
    """Loader of a split whose images are all on the device as uint8; float batches are made on demand.

    Args:
        images: the images of the split.
        augment: augmentation and normalisation.
        device: the training device.
    """

    unreadable: frozenset[str] = frozenset()

    def __init__(self, images: ImageSet, augment: Augment, device: torch.device) -> None:
        self.images = torch.from_numpy(images.images).to(device)
        """[n, channels, height, width] uint8."""
        self.labels = torch.from_numpy(images.labels).to(device)
        """[n] int64."""
        self._augment = augment

    def __len__(self) -> int:
        return len(self.labels)

    def training(
        self, indices_SB: NDArray[np.int64], seed: int, epoch: int, shares: BatchShards
    ) -> Iterator[ImageBatch]:
        """Yield augmented batches; one generator provides all random numbers of an epoch."""
        generator = epoch_generator(seed, epoch, self.labels.device)
        for indices in torch.from_numpy(indices_SB).to(self.labels.device):
            yield ImageBatch(self.augmented(indices, generator, shares), indices)

    def scoring(self, batches: Sequence[slice | Sequence[int]]) -> Iterator[ImageBatch]:
        """Yield normalised batches without augmentation."""
        for batch in batches:
            indices = torch.tensor(indices_of(batch, len(self)), dtype=torch.int64, device=self.labels.device)
            yield ImageBatch(self.normalised(batch if isinstance(batch, slice) else indices), indices)

    def augmented(self, indices_B: Tensor, generator: torch.Generator, shares: BatchShards) -> Tensor:
        """Return this worker's images at `indices_B`, augmented and normalised: [B, C, H, W] float32."""
        return self._augment(self.images[indices_B], generator, start=shares.start, whole=shares.whole)

    def normalised(self, batch: slice | Tensor) -> Tensor:
        """Return the images of a slice or of indices, normalised without augmentation: [B, C, H, W] float32."""
        return self._augment.normalise(self.images[batch])


def indices_of(batch: slice | Sequence[int], num_images: int) -> list[int]:
    """Return the indices of a batch of a split with this number of images."""
    return list(range(*batch.indices(num_images)) if isinstance(batch, slice) else batch)
