"""Contrast from queues (MoCo, self-supervised): each peer keeps the keys of the batches before.

N peers, B images, D embedding, K keys.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


class KeyQueue:
    """The last K keys of every peer, equal on every worker; no gradient reaches them.

    Args:
        num_peers: N.
        size: K.
        embedding_dim: D.
        generator: of the first values, random unit vectors, on the device where the queue is to be.
    """

    def __init__(self, num_peers: int, size: int, embedding_dim: int, *, generator: torch.Generator) -> None:
        shape = (num_peers, size, embedding_dim)
        self.keys = F.normalize(torch.randn(shape, generator=generator, device=generator.device), dim=-1)
        """[N, K, D] float32."""
        self.pointer = 0
        """Where the oldest key is."""

    @torch.no_grad()
    def enqueue(self, keys_NBD: Tensor) -> None:
        """Put new keys in the place of the oldest, going round at the end; of more than K the last K stay.

        K need not be a multiple of B.
        """
        size = self.keys.shape[1]
        newest = keys_NBD[:, -size:]
        places = (self.pointer + torch.arange(newest.shape[1], device=self.keys.device)) % size
        self.keys[:, places] = newest.to(self.keys)
        self.pointer = (self.pointer + newest.shape[1]) % size
