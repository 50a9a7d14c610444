"""A split of a data set on the training device, augmented or normalised for a whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor

from mcl_ray.data.augment import Augment
from mcl_ray.data.dataset import ImageSet
from mcl_ray.distributed import Shares


class DeviceImages:
    """All images of one split, uint8 on the device; float batches are made on demand."""

    def __init__(self, images: ImageSet, augment: Augment, device: torch.device) -> None:
        self.images = torch.from_numpy(images.images).to(device)
        """[n, channels, height, width] uint8."""
        self.labels = torch.from_numpy(images.labels).to(device)
        """[n] int64."""
        self._augment = augment

    def __len__(self) -> int:
        return len(self.labels)

    def augmented(self, indices_B: Tensor, generator: torch.Generator, shares: Shares) -> Tensor:
        """This worker's images, randomly cropped, flipped and normalised: [B, channels, height, width] float32."""
        return self._augment(self.images[indices_B], generator, start=shares.start, whole=shares.whole)

    def normalised(self, batch: slice) -> Tensor:
        """Whole images as they are scored, [B, channels, height, width] float32."""
        return self._augment.normalise(self.images[batch])
