"""Benchmark of the four losses from memory banks, against gathering a bank's slots once for every pair of peers.

    python -m benchmarks.bank [--repeats 5] [--batch 16] [--negatives 8192]

Prints one JSON line: seconds and peak bytes of forward and backward, N = 2 and 4, each peak in a process of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.beside import report
from mcl_ray.config.spec import LossSpec
from mcl_ray.contrast.bank import ContrastDraw, Drawn, MemoryBank
from mcl_ray.distributed import SINGLE_SHARD
from mcl_ray.losses.grid import ContrastGrid
from mcl_ray.losses.terms import contrastive_terms

NUM_CLASSES, IMAGES_PER_CLASS, DIM = 100, 500, 128
WEIGHTS = LossSpec(tau=0.07)


class BankCase:
    """Unit embeddings of a batch, banks, and drawn slots."""

    def __init__(self, num_peers: int, device: str, *, batch: int, negatives: int) -> None:
        labels = torch.arange(NUM_CLASSES * IMAGES_PER_CLASS, device=device) % NUM_CLASSES
        generator = torch.Generator(device).manual_seed(0)
        self.bank = MemoryBank(num_peers, len(labels), DIM, momentum=0.5, generator=generator)
        embeddings = torch.randn(num_peers, batch, DIM, generator=generator, device=device)
        self.embeddings = F.normalize(embeddings, dim=-1).requires_grad_()
        draw = ContrastDraw(labels, positives=1, negatives=negatives)
        self.drawn: Drawn = draw(torch.arange(batch, device=device), generator, SINGLE_SHARD)

    def ours(self) -> Tensor:
        """Return the gradient with one gather of each bank, which is not saved for the backward pass."""
        return self._gradient(self.bank.grid(self.embeddings, self.drawn, WEIGHTS.tau))

    def evident(self) -> Tensor:
        """Return the gradient with a gather for every pair, which autograd saves for the backward pass."""
        peers = range(len(self.embeddings))

        def entry(i: int, j: int) -> Tensor:
            gathered_BMD = self.bank.slots[j][self.drawn.slots]
            return (gathered_BMD @ self.embeddings[i, :, :, None]).squeeze(-1) / WEIGHTS.tau

        logits = torch.stack([torch.stack([entry(i, j) for j in peers]) for i in peers])
        across = ~torch.eye(len(peers), dtype=torch.bool, device=logits.device)[:, :, None, None]
        leading = torch.arange(2, device=logits.device) > 0
        allowed = (across | leading).expand(-1, -1, logits.shape[2], -1)
        return self._gradient(ContrastGrid(logits=logits, positives=allowed, valid=allowed, own_slots=1))

    def _gradient(self, grid: ContrastGrid) -> Tensor:
        terms = contrastive_terms(grid, WEIGHTS)
        (gradient,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), self.embeddings)
        return gradient


if __name__ == "__main__":
    report("bank", __doc__, {"batch": 16, "negatives": 8192}, BankCase)
