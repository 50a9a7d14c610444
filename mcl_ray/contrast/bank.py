"""Contrast from a memory bank (ImageNet, supervised): each peer remembers an embedding of every training image.

N peers, B images of this worker, G images of all workers, D embedding, C classes, n training images, P positives,
K negatives, M = 1 + P + K slots of an anchor.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mcl_ray.contrast.gathered import gathered_products
from mcl_ray.distributed import BatchShards
from mcl_ray.losses.grid import ContrastGrid


class Drawn(NamedTuple):
    """The slots that a batch is contrasted with, the same for every peer."""

    slots: Tensor
    """[B, M] int64: the image's own, then P of its class, then K of other classes."""
    has_positive: Tensor
    """[B, P] bool: whether the P are of its class; where the image is alone in it, they are of other classes."""


class ContrastDraw:
    """Draws positives and negatives by arithmetic on indices, on the device, with replacement.

    Images are sorted by class once. A position among the n − n_c images of other classes is a position among all of
    them, moved on by n_c where it is not before the class.

    Args:
        labels: class of each training image, [n], on the device; at least two classes.
        positives: P.
        negatives: K.
    """

    def __init__(self, labels: Tensor, *, positives: int, negatives: int) -> None:
        self._labels, self._positives, self._negatives = labels, positives, negatives
        self._by_class = labels.argsort(stable=True)
        self._position = self._by_class.argsort()
        self._counts_C = labels.bincount()
        self._starts_C = self._counts_C.cumsum(0) - self._counts_C

    def __call__(self, image_ids_B: Tensor, generator: torch.Generator, shares: BatchShards) -> Drawn:
        """The slots for this worker's images [B]; how many workers there are changes nothing."""
        shape = (max(shares.whole, len(image_ids_B)), self._positives + self._negatives)
        chance_GK = torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)
        chance_BK = chance_GK[shares.start : shares.start + len(image_ids_B)]
        classes_B1 = self._labels[image_ids_B, None]
        count_B1, start_B1 = self._counts_C[classes_B1], self._starts_C[classes_B1]
        has_positive_BP = (count_B1 > 1).expand(-1, self._positives)

        others_BK = (chance_BK * (len(self._labels) - count_B1)).long()
        others_BK += count_B1 * (others_BK >= start_B1)
        fellows_BP = (chance_BK[:, : self._positives] * (count_B1 - 1)).long() + start_B1
        fellows_BP += fellows_BP >= self._position[image_ids_B, None]
        positives_BP = torch.where(has_positive_BP, fellows_BP, others_BK[:, : self._positives])
        drawn = self._by_class[torch.cat([positives_BP, others_BK[:, self._positives :]], dim=1)]
        return Drawn(torch.cat([image_ids_B[:, None], drawn], dim=1), has_positive_BP)


class MemoryBank:
    """The embeddings that every peer remembers, equal on every worker; no gradient reaches them.

    Args:
        num_peers: N.
        num_images: n.
        embedding_dim: D.
        momentum: share of a slot that stays when it is renewed.
        generator: of the first values, uniform within ± 1 / √(D / 3), on the device where the bank is to be.
    """

    def __init__(
        self, num_peers: int, num_images: int, embedding_dim: int, *, momentum: float, generator: torch.Generator
    ) -> None:
        bound = 1 / math.sqrt(embedding_dim / 3)
        uniform = torch.rand((num_peers, num_images, embedding_dim), generator=generator, device=generator.device)
        self.slots = uniform * (2 * bound) - bound
        """[N, n, D] float32."""
        self._momentum = momentum

    def grid(self, embeddings_NBD: Tensor, drawn: Drawn, tau: float) -> ContrastGrid:
        """Entry (i, j)[a, m]: e_i[a] · slot m of a in bank j, / tau.

        The banks are those of Wu et al., CVPR 2018 (arXiv 1805.01978). The own slot is what the other peer remembers of
        the same image, a positive; within a peer it is left out.

        Shape:
            embeddings_NBD: [N, B, D] of unit length; the grid's logits are [N, N, B, M].
        """
        with torch.autocast(embeddings_NBD.device.type, enabled=False):
            logits_NNBM = gathered_products(embeddings_NBD, self.slots, drawn.slots) / tau
        across_NN11 = ~torch.eye(len(self.slots), dtype=torch.bool, device=self.slots.device)[:, :, None, None]
        own_NNB1 = across_NN11.expand(-1, -1, len(drawn.slots), 1)
        fellows_NNBP = drawn.has_positive.expand(*across_NN11.shape[:2], -1, -1)
        return ContrastGrid(
            logits=logits_NNBM,
            positives=torch.cat([own_NNB1, fellows_NNBP], dim=-1),
            valid=across_NN11.logical_or(torch.arange(1 + fellows_NNBP.shape[-1], device=self.slots.device) > 0),
            own_slots=1,
        )

    @torch.no_grad()
    def renew(self, embeddings_NGD: Tensor, image_ids_G: Tensor) -> None:
        """Move the slots of these images towards their embeddings: slot ← unit(m · slot + (1 − m) · embedding).

        An image that comes twice counts where it comes first, so that every worker's bank stays the same.

        Shape:
            embeddings_NGD: [N, G, D] of unit length; image_ids_G: [G].
        """
        first_G = (image_ids_G[:, None] == image_ids_G).int().argmax(1)
        moved = torch.lerp(embeddings_NGD[:, first_G].to(self.slots), self.slots[:, image_ids_G], self._momentum)
        self.slots[:, image_ids_G] = F.normalize(moved, dim=-1)
