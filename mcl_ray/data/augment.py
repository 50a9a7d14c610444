"""Random crop, mirroring and normalisation of a whole batch on the device of the images.

Random offsets are drawn on the device and stay there, so that augmentation needs no synchronisation with it.
"""

# B images of this worker, G images of all workers, C channels, H height, W width, P padding

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

STREAM = 1
"""Random stream of augmentation, independent of the sampler's, which uses the same (seed, epoch)."""


class Augment:
    """Augmentation of training images, and normalisation of training and evaluation images.

    A crop has the image's own size, after zero padding. As with torchvision's RandomCrop, ToTensor and Normalize, the
    padding is black before normalisation. Each image is mirrored with probability 0.5.

    Args:
        mean: mean of each channel, for images scaled to 0..1, [C].
        std: standard deviation of each channel, for images scaled to 0..1, [C].
        crop_padding: padding in pixels on each side before the crop, P; 0 for no crop.
        flip: whether images are mirrored.
        channels_last: whether the result has the channels-last memory format.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        crop_padding: int = 0,
        flip: bool = False,
        *,
        channels_last: bool = False,
    ) -> None:
        mean_C, std_C = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
        self._scale = (1 / (255 * std_C)).float().view(1, -1, 1, 1)
        self._shift = (-mean_C / std_C).float().view(1, -1, 1, 1)
        self._crop_padding, self._flip = crop_padding, flip
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def __call__(
        self, images: Tensor, generator: torch.Generator, *, start: int = 0, whole: int | None = None
    ) -> Tensor:
        """Augment and normalise the training images of one worker.

        Every worker draws the random numbers of the whole batch, from generators in the same state, so that the result
        is independent of the number of workers.

        Args:
            images: this worker's images.
            generator: on the device of the images, in the same state on every worker.
            start: index of the first of `images` in the whole batch.
            whole: number of images in the whole batch, G; None if `images` is the whole batch.

        Shape:
            images: uint8 [B, C, H, W]; returns float32 [B, C, H, W].
        """
        if self._crop_padding or self._flip:
            draws = self._draw(len(images) if whole is None else whole, generator, images.device)
            images = self._crop_and_flip(images, *(values_G[start : start + len(images)] for values_G in draws))
        return self.normalise(images)

    def normalise(self, images: Tensor) -> Tensor:
        """Normalise images without augmentation, uint8 [B, C, H, W] → float32 [B, C, H, W]."""
        if self._scale.device != images.device:
            self._scale, self._shift = self._scale.to(images.device), self._shift.to(images.device)
        normalised = images.to(torch.float32).mul_(self._scale).add_(self._shift)
        return normalised.contiguous(memory_format=self._memory_format)

    def _draw(self, whole: int, generator: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Draw the top and left edges of the crops, 0..2P, and the mask of mirrored images: [G] each."""
        edges_2G = torch.randint(2 * self._crop_padding + 1, (2, whole), generator=generator, device=device)
        mirrored_G = torch.randint(2, (whole,), generator=generator, device=device, dtype=torch.bool)
        return edges_2G[0], edges_2G[1], mirrored_G & self._flip

    def _crop_and_flip(self, images: Tensor, top_B: Tensor, left_B: Tensor, mirrored_B: Tensor) -> Tensor:
        """Gather each crop's pixels by their position in the flattened padded image.

        On a CPU this is 2 to 7 times faster than advanced indexing with grids of rows and columns, and 1.5 to 3 times
        faster than indexing a view of all windows.
        """
        size, channels, height, width = images.shape
        padding = self._crop_padding
        padded = functional.pad(images, (padding, padding, padding, padding)).reshape(size, channels, -1)
        padded_width = width + 2 * padding
        rows = torch.arange(height, device=images.device)[:, None] * padded_width
        columns = torch.arange(width, device=images.device)
        upright, mirrored = (rows + columns).view(1, -1), (rows + columns.flip(0)).view(1, -1)
        start_B1 = (top_B * padded_width + left_B)[:, None]
        positions = torch.where(mirrored_B[:, None], mirrored, upright) + start_B1
        return padded.gather(2, positions[:, None].expand(-1, channels, -1)).view(images.shape)


def epoch_generator(seed: int, epoch: int, device: torch.device, stream: int = STREAM) -> torch.Generator:
    """Return the generator of one epoch's augmentation, in the same state on every rank.

    Args:
        seed: the run's seed.
        epoch: the epoch, from 0.
        device: device of the generator.
        stream: number of the random stream; each use of random numbers on the device has its own.
    """
    state = np.random.SeedSequence(seed, spawn_key=(epoch, stream)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0]))
