"""The four terms where the contrast set is too large for its grid to be held: chunk by chunk, values and gradients.

What `terms.py` computes from a whole grid is computed here in two passes over its columns: one for the normalisers of
the softmaxes, one for what is then a sum over columns. Memory grows with the chunk, not with the contrast set.

N peers, B anchors, D embedding, K keys of a queue, M columns of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mcl_ray.config.spec import LossSpec
from mcl_ray.losses.terms import diagonal, with_gradient

CHUNK_BYTES = 2**24
"""About as much of the grid is looked at together."""


class Streamed(NamedTuple):
    """What a batch yields."""

    total: Tensor
    """The weighted sum of the terms, a scalar, differentiable by the queries, once."""
    terms: dict[str, Tensor]
    """Every unweighted term whose weight is not zero, a scalar without a gradient."""


def streamed_losses(
    queries_NBD: Tensor, keys_NBD: Tensor, queue_NKD: Tensor, weights: LossSpec, *, chunk: int | None = None
) -> Streamed:
    """The four terms of queries against their keys and a queue of others.

    Entry (i, j) of the grid is [q_i·k_j, q_i·queue_j] / tau, its first column the only positive (MoCo: He et al., CVPR
    2020, arXiv 1911.05722). Gradients reach the queries alone, all terms' together, so that each chunk's is made once.

    Args:
        queries_NBD: of unit length.
        keys_NBD: of unit length.
        queue_NKD: of unit length.
        weights: of the terms, and temperatures.
        chunk: columns that are looked at together; None: as `CHUNK_BYTES` says.

    Shape:
        queries_NBD, keys_NBD: [N, B, D]; queue_NKD: [N, K, D].
    """
    num_peers, num_anchors, _ = queries_NBD.shape
    if num_peers > 1 and weights.alpha and not (weights.beta or weights.gamma or weights.lam):
        return _apart(queries_NBD, keys_NBD, queue_NKD, weights, chunk)
    with torch.no_grad(), torch.autocast(queries_NBD.device.type, enabled=False):
        dtype = torch.promote_types(queries_NBD.dtype, torch.float32)
        columns = chunk or max(1, CHUNK_BYTES // (num_peers**2 * num_anchors * dtype.itemsize))
        grid = _Grid(queries_NBD.to(dtype), keys_NBD.to(dtype), queue_NKD.to(dtype), weights.tau, columns)
        work = _Work(grid, weights)
    total = torch.stack([work.weight[name] * value for name, value in work.values.items()]).sum()
    return Streamed(with_gradient(total, queries_NBD, work.gradient), work.values)


def _apart(queries: Tensor, keys: Tensor, queue: Tensor, weights: LossSpec, chunk: int | None) -> Streamed:
    """Peers that teach each other nothing need no pairs."""
    peers = [slice(i, i + 1) for i in range(len(queries))]
    alone = [streamed_losses(queries[i], keys[i], queue[i], weights, chunk=chunk) for i in peers]
    total = torch.stack([one.total for one in alone]).sum()
    return Streamed(total, {"vcl": torch.stack([one.terms["vcl"] for one in alone]).sum()})


class _Chunk(NamedTuple):
    """Some columns of the grid."""

    logits: Tensor
    """[N, N, B, M], of peer i's queries and peer j's keys."""
    keys: Tensor
    """[N, M, D], of peer j; of the positive column [N, B, D], one for each anchor."""
    positive: bool
    """Whether it is the column that anchors are to be close to."""


class _Grid:
    """The columns, a chunk at a time."""

    def __init__(self, queries: Tensor, keys: Tensor, queue: Tensor, tau: float, columns: int) -> None:
        self.queries, self._keys, self._queue, self._tau, self._columns = queries, keys, queue, tau, columns

    def chunks(self) -> Iterator[_Chunk]:
        """The positive column, then the queue."""
        positive = torch.einsum("ibd,jbd->ijb", self.queries, self._keys)[..., None] / self._tau
        yield _Chunk(positive, self._keys, positive=True)
        flat = (self.queries / self._tau).flatten(0, 1)
        for keys in torch.split(self._queue, self._columns, dim=1):
            logits = (flat @ keys.mT).view(len(keys), *self.queries.shape[:2], -1)  # [j, i, B, M]
            yield _Chunk(logits.transpose(0, 1), keys, positive=False)

    def pulled(self, chunk: _Chunk, gradient_NNBM: Tensor) -> Tensor:
        """What a gradient of a chunk's logits is to the queries, [N, B, D]."""
        if chunk.positive:
            return torch.einsum("ijb,jbd->ibd", gradient_NNBM[..., 0], chunk.keys) / self._tau
        by_keys = gradient_NNBM.transpose(0, 1).flatten(1, 2)  # [j, i·B, M]
        return (by_keys @ chunk.keys).sum(0).view(self.queries.shape) / self._tau


class _Work:
    """One batch's passes over the columns."""

    def __init__(self, grid: _Grid, weights: LossSpec) -> None:
        num_peers, num_anchors, _ = grid.queries.shape
        wanted = {"vcl": weights.alpha, "icl": weights.beta, "soft_vcl": weights.gamma, "soft_icl": weights.lam}
        self.weight = {name: weight for name, weight in wanted.items() if weight and (num_peers > 1 or name == "vcl")}
        """Of each term that is computed."""
        self.values = {name: grid.queries.new_zeros(()) for name in self.weight}
        self.gradient = torch.zeros_like(grid.queries)
        """[N, B, D], of the weighted sum."""
        self._temperature, self._num_anchors = weights.temperature, num_anchors
        same = torch.eye(num_peers, dtype=torch.bool, device=grid.queries.device)
        hard_weight = torch.full(same.shape, self.weight.get("icl", 0.0), dtype=grid.queries.dtype, device=same.device)
        self._hard_weight = hard_weight.masked_fill(same, self.weight.get("vcl", 0.0))[:, :, None, None]
        hard, soft = self._normalisers(grid)
        for chunk in grid.chunks():
            gradient = torch.zeros_like(chunk.logits)
            if {"vcl", "icl"} & self.weight.keys():
                self._add_hard(chunk, hard, gradient)
            if {"soft_vcl", "soft_icl"} & self.weight.keys():
                self._add_soft(chunk, soft, gradient)
            self.gradient += grid.pulled(chunk, gradient)

    def _normalisers(self, grid: _Grid) -> tuple[Tensor, Tensor]:
        """Log Σ exp over all columns, [N, N, B, 1]: of the logits, and of them at the distillation temperature."""
        num_peers, num_anchors, _ = grid.queries.shape
        hard = soft = grid.queries.new_full((num_peers, num_peers, num_anchors, 1), -torch.inf)
        for chunk in grid.chunks():
            hard = torch.logaddexp(hard, chunk.logits.logsumexp(-1, keepdim=True))
            soft = torch.logaddexp(soft, (chunk.logits / self._temperature).logsumexp(-1, keepdim=True))
        return hard, soft

    def _add_hard(self, chunk: _Chunk, normaliser: Tensor, gradient: Tensor) -> None:
        """Cross-entropy with the first column as target (paper, eqs. 2 and 4)."""
        log_p = chunk.logits - normaliser
        if chunk.positive:
            within, whole = (-part.sum() / self._num_anchors for part in (diagonal(log_p), log_p))
            for name, value in (("vcl", within), ("icl", whole - within)):
                if name in self.values:
                    self.values[name] += value
        apart = log_p.exp_().sub_(float(chunk.positive))
        gradient.addcmul_(apart, self._hard_weight, value=1 / self._num_anchors)

    def _add_soft(self, chunk: _Chunk, normaliser: Tensor, gradient: Tensor) -> None:
        """See `terms.soft_vcl` and `terms.soft_icl`, whose sums over columns these are parts of (eqs. 3 and 5)."""
        scale = self._temperature / self._num_anchors
        log_q = (chunk.logits / self._temperature).sub_(normaliser)
        if "soft_vcl" in self.values:
            log_q_NBM = diagonal(log_q)
            q_NBM = log_q_NBM.exp()
            apart = len(q_NBM) * (q_NBM - q_NBM.mean(0))
            self.values["soft_vcl"] += self._temperature * scale * (apart * (log_q_NBM - log_q_NBM.mean(0))).sum()
            diagonal(gradient).add_(apart, alpha=scale * self.weight["soft_vcl"])
        if "soft_icl" in self.values:
            q = log_q.exp()
            apart = q - q.transpose(0, 1)
            log_apart = log_q - log_q.transpose(0, 1)
            self.values["soft_icl"] += self._temperature * scale / 2 * torch.dot(apart.flatten(), log_apart.flatten())
            gradient.add_(apart, alpha=scale * self.weight["soft_icl"])
