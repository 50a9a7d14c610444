"""Benchmark of the four losses from queues, against an implementation that keeps the logits of every pair of peers.

    python -m benchmarks.queue [--repeats 5] [--batch 64] [--keys 65536]

Prints one JSON line: seconds and peak bytes of forward and backward, N = 2 and 4, each peak in a process of its own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.beside import report
from mcl_ray.config.spec import LossSpec
from mcl_ray.losses.streamed import streamed_losses

DIM = 128
WEIGHTS = LossSpec(alpha=1, beta=1, gamma=1, lam=1, tau=0.07)


class QueueCase:
    """Unit queries and keys of a batch, and queues."""

    def __init__(self, num_peers: int, device: str, *, batch: int, keys: int) -> None:
        generator = torch.Generator(device).manual_seed(0)

        def unit(rows: int) -> Tensor:
            return F.normalize(torch.randn(num_peers, rows, DIM, generator=generator, device=device), dim=-1)

        self.queries, self.keys, self.queue = unit(batch).requires_grad_(), unit(batch), unit(keys)

    def ours(self) -> Tensor:
        """Return the gradient, computed in two passes over chunks that save nothing for the backward pass."""
        return self._gradient([streamed_losses(self.queries, self.keys, self.queue, WEIGHTS).total])

    def evident(self) -> Tensor:
        """Return the gradient, computed from the logits of every pair and the divergences between them."""
        peers = range(len(self.queries))
        logits = {(i, j): self._logits(i, j) for i in peers for j in peers}
        target = torch.zeros(self.queries.shape[1], dtype=torch.int64, device=self.queries.device)
        hard = [F.cross_entropy(entry, target) for entry in logits.values()]
        pairs = [(i, j) for i in peers for j in peers if i != j]
        soft_vcl = [self._divergence(logits[i, i], logits[j, j]) for i, j in pairs]
        soft_icl = [self._divergence(logits[i, j], logits[j, i]) for i, j in pairs]
        return self._gradient([*hard, *soft_vcl, *soft_icl])

    def _logits(self, i: int, j: int) -> Tensor:
        positive = (self.queries[i] * self.keys[j]).sum(-1, keepdim=True)
        return torch.cat([positive, self.queries[i] @ self.queue[j].T], dim=1) / WEIGHTS.tau

    def _divergence(self, student: Tensor, teacher: Tensor) -> Tensor:
        log_p, q = (student / WEIGHTS.temperature).log_softmax(-1), (teacher.detach() / WEIGHTS.temperature).softmax(-1)
        return WEIGHTS.temperature**2 * F.kl_div(log_p, q, reduction="batchmean")

    def _gradient(self, losses: list[Tensor]) -> Tensor:
        (gradient,) = torch.autograd.grad(torch.stack(losses).sum(), self.queries)
        return gradient


if __name__ == "__main__":
    report("queue", __doc__, {"batch": 64, "keys": 65536}, QueueCase)
