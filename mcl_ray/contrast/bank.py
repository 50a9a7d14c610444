"""Contrast with a memory bank (ImageNet, supervised): each peer stores an embedding of every training image.

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


class ContrastSlots(NamedTuple):
    """The slots of a batch's contrast set, the same for every peer."""

    slots: Tensor
    """[B, M] int64: the image's own slot, then P of its class, then K of other classes."""
    has_positive: Tensor
    """[B, P] bool: True where the P slots are of the image's class; a class of one image gets slots of other ones."""


class SlotSampler:
    """Samples positives and negatives with replacement, by arithmetic on indices on the device.

    Yang et al., AAAI 2022 (arXiv 2104.12565), as in its code for ImageNet, without its lists of negatives. Images are
    sorted by class once. With n_c images of class c, which begin at position s_c, a uniform r among the n − n_c images
    of other classes becomes a position among all images:

        r + n_c · [r ≥ s_c]

    Deviation: the published code may choose the image itself as its positive; this one does not.

    Args:
        labels: class of each training image; at least two classes.
        positives: P.
        negatives: K.

    Shape:
        labels: [n] int64, on the device; a call returns slots [B, 1 + P + K].

    Example:
        >>> import torch
        >>> from mcl_ray.distributed import SINGLE_SHARD
        >>> sampler = SlotSampler(torch.tensor([0, 0, 1, 1]), positives=1, negatives=3)  # 4 images of 2 classes
        >>> contrast = sampler(torch.tensor([0]), torch.Generator().manual_seed(0), SINGLE_SHARD)
        >>> contrast.slots[0, :2].tolist()  # image 0 itself, and the other image of its class
        [0, 1]
        >>> set(contrast.slots[0, 2:].tolist()) <= {2, 3}  # images of the other class
        True
    """

    def __init__(self, labels: Tensor, *, positives: int, negatives: int) -> None:
        self._labels, self._positives, self._negatives = labels, positives, negatives
        self._by_class = labels.argsort(stable=True)
        self._position = self._by_class.argsort()
        self._counts_C = labels.bincount()
        self._starts_C = self._counts_C.cumsum(0) - self._counts_C

    def __call__(self, image_ids_B: Tensor, generator: torch.Generator, shares: BatchShards) -> ContrastSlots:
        """Sample the slots of this worker's images.

        Every worker draws the random numbers of the whole batch, so the result is independent of the number of workers.

        Args:
            image_ids_B: indices of this worker's images in the training set, [B] int64.
            generator: in the same state on every worker.
            shares: split of the batch over the workers.
        """
        shape = (max(shares.whole, len(image_ids_B)), self._positives + self._negatives)
        uniform_GK = torch.rand(shape, generator=generator, device=generator.device, dtype=torch.float64)
        uniform_BK = uniform_GK[shares.start : shares.start + len(image_ids_B)]
        classes_B1 = self._labels[image_ids_B, None]
        count_B1, start_B1 = self._counts_C[classes_B1], self._starts_C[classes_B1]
        has_positive_BP = (count_B1 > 1).expand(-1, self._positives)

        others_BK = (uniform_BK * (len(self._labels) - count_B1)).long()
        others_BK += count_B1 * (others_BK >= start_B1)
        same_class_BP = (uniform_BK[:, : self._positives] * (count_B1 - 1)).long() + start_B1
        same_class_BP += same_class_BP >= self._position[image_ids_B, None]
        positives_BP = torch.where(has_positive_BP, same_class_BP, others_BK[:, : self._positives])
        sampled = self._by_class[torch.cat([positives_BP, others_BK[:, self._positives :]], dim=1)]
        return ContrastSlots(torch.cat([image_ids_B[:, None], sampled], dim=1), has_positive_BP)


class MemoryBank:
    """One embedding of every training image per peer, equal on every worker, without gradients.

    Wu et al., CVPR 2018 (arXiv 1805.01978), with the embedding e_i[x] of image x by peer i, and for each peer

        slot[x] ← normalise(m · slot[x] + (1 − m) · e_i[x])

    Args:
        num_peers: N.
        num_images: n.
        embedding_dim: D.
        momentum: weight m of a slot's old value in an update.
        generator: source of the initial values, uniform in ± 1 / √(D / 3), on the device of the bank.

    Shape:
        slots: [N, n, D].

    Example:
        >>> import torch
        >>> bank = MemoryBank(1, 3, 2, momentum=0.5, generator=torch.Generator().manual_seed(0))  # N, n and D
        >>> bank.slots[:] = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
        >>> embeddings = torch.tensor([[[0.0, 1.0]]])  # of image 0
        >>> contrast = ContrastSlots(torch.tensor([[0, 1, 2]]), has_positive=torch.tensor([[True]]))
        >>> bank.grid(embeddings, contrast, tau=0.5).logits[0, 0].tolist()
        [[0.0, 2.0, 0.0]]
        >>> bank.update(embeddings, torch.tensor([0]))
        >>> [round(value, 4) for value in bank.slots[0, 0].tolist()]
        [0.7071, 0.7071]
    """

    def __init__(
        self, num_peers: int, num_images: int, embedding_dim: int, *, momentum: float, generator: torch.Generator
    ) -> None:
        bound = 1 / math.sqrt(embedding_dim / 3)
        uniform = torch.rand((num_peers, num_images, embedding_dim), generator=generator, device=generator.device)
        self.slots = uniform * (2 * bound) - bound
        """[N, n, D] float32."""
        self._momentum = momentum

    def grid(self, embeddings_NBD: Tensor, contrast: ContrastSlots, tau: float) -> ContrastGrid:
        """Return the grid with entry (i, j)[a, m] = e_i[a] · slot m of anchor a in bank j / tau.

        For i≠j the image's own slot, peer j's embedding of the same image, is a positive; for i=j it is excluded.

        Shape:
            embeddings_NBD: [N, B, D] of unit length; the grid's logits are [N, N, B, M].
        """
        with torch.autocast(embeddings_NBD.device.type, enabled=False):
            logits_NNBM = gathered_products(embeddings_NBD, self.slots, contrast.slots) / tau
        across_NN11 = ~torch.eye(len(self.slots), dtype=torch.bool, device=self.slots.device)[:, :, None, None]
        own_NNB1 = across_NN11.expand(-1, -1, len(contrast.slots), 1)
        same_class_NNBP = contrast.has_positive.expand(*across_NN11.shape[:2], -1, -1)
        return ContrastGrid(
            logits=logits_NNBM,
            positives=torch.cat([own_NNB1, same_class_NNBP], dim=-1),
            valid=across_NN11.logical_or(torch.arange(1 + same_class_NNBP.shape[-1], device=self.slots.device) > 0),
            own_slots=1,
        )

    @torch.no_grad()
    def update(self, embeddings_NGD: Tensor, image_ids_G: Tensor) -> None:
        """Update the slots of a batch's images: slot ← normalise(m · slot + (1 − m) · embedding).

        If an image occurs twice in the batch, its first embedding is used, so that all workers' banks stay equal.

        Shape:
            embeddings_NGD: [N, G, D] of unit length; image_ids_G: [G].
        """
        first_G = (image_ids_G[:, None] == image_ids_G).int().argmax(1)
        moved = torch.lerp(embeddings_NGD[:, first_G].to(self.slots), self.slots[:, image_ids_G], self._momentum)
        self.slots[:, image_ids_G] = F.normalize(moved, dim=-1)
