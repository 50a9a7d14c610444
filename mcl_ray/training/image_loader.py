"""The images of a split as batches on the training device. What lies in memory is here, what is read is `stream`.

B images of this worker, C channels, H × W pixels.
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
    """One batch."""

    images: Tensor
    """[B, C, H, W] float32, normalised; of two training views of each image, [2B, …], the second after the first."""
    indices: Tensor
    """[B] int64, which images of the split they are."""


class ImageLoader(Protocol):
    """One split."""

    labels: Tensor
    """[n] int64, on the device."""

    @property
    def unreadable(self) -> frozenset[str]:
        """Names of the images, of any split, that this worker met and could not decode."""

    def __len__(self) -> int:
        """Number of images, n."""

    def training(
        self, indices_SB: NDArray[np.int64], seed: int, epoch: int, shares: BatchShards
    ) -> Iterator[ImageBatch]:
        """This worker's part of each of S batches, augmented; the same images for the same seed and epoch."""

    def scoring(self, batches: Sequence[slice]) -> Iterator[ImageBatch]:
        """Whole images as they are scored."""


class DeviceImages:
    """All images of one split, uint8 on the device; float batches are made on demand."""

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
        """Each batch augmented at once; all draws of an epoch come from one generator."""
        generator = epoch_generator(seed, epoch, self.labels.device)
        for indices in torch.from_numpy(indices_SB).to(self.labels.device):
            yield ImageBatch(self.augmented(indices, generator, shares), indices)

    def scoring(self, batches: Sequence[slice]) -> Iterator[ImageBatch]:
        """Each batch as it is."""
        for batch in batches:
            yield ImageBatch(self.normalised(batch), torch.arange(*batch.indices(len(self)), device=self.labels.device))

    def augmented(self, indices_B: Tensor, generator: torch.Generator, shares: BatchShards) -> Tensor:
        """This worker's images, randomly cropped, flipped and normalised: [B, channels, height, width] float32."""
        return self._augment(self.images[indices_B], generator, start=shares.start, whole=shares.whole)

    def normalised(self, batch: slice) -> Tensor:
        """Whole images as they are scored, [B, channels, height, width] float32."""
        return self._augment.normalise(self.images[batch])
