"""Contrast with queues (MoCo, self-supervised): each peer stores the keys of the preceding batches.

N peers, B images, D embedding, K keys.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


class KeyQueue:
    """Ring buffer of the last K keys of every peer, equal on every worker, without gradients.

    He et al., CVPR 2020 (arXiv 1911.05722), section 3.2; after B new keys the queue of a peer has

        the K newest of (oldest key, ..., newest key, new key 1, ..., new key B)

    Args:
        num_peers: N.
        size: K.
        embedding_dim: D.
        generator: source of the initial keys, random unit vectors, on the device of the queue.

    Shape:
        keys: [N, K, D] of unit length.

    Example:
        >>> import torch
        >>> queue = KeyQueue(num_peers=1, size=3, embedding_dim=2, generator=torch.Generator().manual_seed(0))
        >>> queue.enqueue(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))  # B = 2
        >>> queue.keys[0, :2].tolist(), queue.pointer  # the third key, now the oldest, is replaced next
        ([[1.0, 0.0], [0.0, 1.0]], 2)
    """

    def __init__(self, num_peers: int, size: int, embedding_dim: int, *, generator: torch.Generator) -> None:
        shape = (num_peers, size, embedding_dim)
        self.keys = F.normalize(torch.randn(shape, generator=generator, device=generator.device), dim=-1)
        """[N, K, D] float32."""
        self.pointer = 0
        """Index of the oldest key."""

    @torch.no_grad()
    def enqueue(self, keys_NBD: Tensor) -> None:
        """Replace the oldest keys by new ones, wrapping around at the end; of more than K new keys, the last K stay.

        K need not be a multiple of B.

        Shape:
            keys_NBD: [N, B, D] of unit length.
        """
        size = self.keys.shape[1]
        newest = keys_NBD[:, -size:]
        positions = (self.pointer + torch.arange(newest.shape[1], device=self.keys.device)) % size
        self.keys[:, positions] = newest.to(self.keys)
        self.pointer = (self.pointer + newest.shape[1]) % size
