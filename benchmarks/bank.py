"""Benchmark of the four losses from memory banks, against gathering a bank's slots once for every pair of peers.

    python -m benchmarks.bank [--repeats 5] [--batch 16] [--negatives 8192]

Prints one JSON line: seconds and peak bytes of forward and backward, N = 2 and 4, each peak in a process of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.beside import report
from benchmarks.evident import bank_grid
from mcl_ray.config.spec import LossSpec
from mcl_ray.contrast.bank import ContrastSlots, MemoryBank, SlotSampler
from mcl_ray.distributed import SINGLE_SHARD
from mcl_ray.losses.grid import ContrastGrid
from mcl_ray.losses.terms import contrastive_terms

NUM_CLASSES, IMAGES_PER_CLASS, DIM = 100, 500, 128
WEIGHTS = LossSpec(tau=0.07)


class BankCase:
    """Unit embeddings of a batch, banks, and sampled slots."""

    def __init__(self, num_peers: int, device: str, *, batch: int, negatives: int) -> None:
        labels = torch.arange(NUM_CLASSES * IMAGES_PER_CLASS, device=device) % NUM_CLASSES
        generator = torch.Generator(device).manual_seed(0)
        self.bank = MemoryBank(num_peers, len(labels), DIM, momentum=0.5, generator=generator)
        embeddings = torch.randn(num_peers, batch, DIM, generator=generator, device=device)
        self.embeddings = F.normalize(embeddings, dim=-1).requires_grad_()
        sampler = SlotSampler(labels, positives=1, negatives=negatives)
        self.contrast: ContrastSlots = sampler(torch.arange(batch, device=device), generator, SINGLE_SHARD)

    def ours(self) -> Tensor:
        """Return the gradient with one gather of each bank, which is not saved for the backward pass."""
        return self._gradient(self.bank.grid(self.embeddings, self.contrast, WEIGHTS.tau))

    def evident(self) -> Tensor:
        """Return the gradient with a gather for every pair, which autograd saves for the backward pass."""
        return self._gradient(bank_grid(self.bank, self.embeddings, self.contrast.slots, WEIGHTS.tau))

    def _gradient(self, grid: ContrastGrid) -> Tensor:
        terms = contrastive_terms(grid, WEIGHTS)
        (gradient,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), self.embeddings)
        return gradient


if __name__ == "__main__":
    report("bank", __doc__, {"batch": 16, "negatives": 8192}, BankCase)
