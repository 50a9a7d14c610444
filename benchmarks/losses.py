"""Benchmark of the four losses within the batch, against an implementation that computes them pair by pair.

    python -m benchmarks.losses [--repeats 5] [--peers 2 4 8 16] [--batch 128] [--dim 128]

Prints one JSON line: seconds and peak bytes of forward and backward for each number of peers, each peak in a process of
its own. The batch has two images of each class; both implementations compute all four terms.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import evident
from benchmarks.beside import report
from mcl_ray.config.spec import LossSpec
from mcl_ray.contrast.in_batch import in_batch_grid
from mcl_ray.losses.terms import contrastive_terms
from mcl_ray.methods.method import weighted_sum

WEIGHTS = LossSpec(alpha=0.1, beta=0.1, gamma=1, lam=1, tau=0.1)


class LossesCase:
    """Unit embeddings of a batch by each peer, with labels."""

    def __init__(self, num_peers: int, device: str, *, batch: int, dim: int) -> None:
        generator = torch.Generator(device).manual_seed(0)
        raw = torch.randn(num_peers, batch, dim, generator=generator, device=device)
        self.embeddings = F.normalize(raw, dim=-1).requires_grad_()
        self.image_ids = torch.arange(batch, device=device)
        self.labels = self.image_ids // 2

    def ours(self) -> Tensor:
        """Return the gradient, computed from the grid of all pairs."""
        grid = in_batch_grid(self.embeddings, self.labels, self.image_ids, WEIGHTS.tau)
        return self._gradient(contrastive_terms(grid, WEIGHTS))

    def evident(self) -> Tensor:
        """Return the gradient, computed pair by pair."""
        return self._gradient(evident.contrastive(list(self.embeddings), self.labels, WEIGHTS))

    def _gradient(self, terms: dict[str, Tensor]) -> Tensor:
        (gradient,) = torch.autograd.grad(weighted_sum(terms, WEIGHTS), self.embeddings)
        return gradient


if __name__ == "__main__":
    report("losses", __doc__, {"batch": 128, "dim": 128}, LossesCase, peers=(2, 4, 8, 16))
