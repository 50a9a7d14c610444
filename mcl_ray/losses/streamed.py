"""The four terms and their gradients for a contrast set whose grid does not fit into memory, chunk by chunk.

The terms are those of `terms.py`. Two passes over the columns of the grid replace the grid: the first computes the
normalisers of the softmaxes, the second sums over columns. Memory grows with the chunk, not with the contrast set.

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
"""Approximate size of a chunk of the grid."""


class Streamed(NamedTuple):
    """Losses of a batch."""

    total: Tensor
    """Weighted sum of the terms, a scalar, differentiable once with respect to the queries."""
    terms: dict[str, Tensor]
    """Unweighted terms of non-zero weight by name, scalars without gradients."""


def streamed_losses(
    queries_NBD: Tensor, keys_NBD: Tensor, queue_NKD: Tensor, weights: LossSpec, *, chunk: int | None = None
) -> Streamed:
    """Compute the four terms of queries against their keys and a queue of earlier keys.

    Yang et al., AAAI 2022 (arXiv 2104.12565), eqs. 2 to 5, with the contrast sets of MoCo (He et al., CVPR 2020, arXiv
    1911.05722, eq. 1): of the grid L the first column is the only positive,

        L_ij = [q_i·k_j, q_i·queue_j] / tau

    and the terms are those of `terms.contrastive_terms`. Only the queries get a gradient, that of the weighted sum, so
    that one backward product per chunk suffices.

    Args:
        queries_NBD: embeddings of the query encoders, of unit length.
        keys_NBD: embeddings of the key encoders, of unit length.
        queue_NKD: keys of earlier batches, of unit length.
        weights: weights and temperatures of the terms.
        chunk: number of columns in a chunk; None chooses it by `CHUNK_BYTES`.

    Shape:
        queries_NBD, keys_NBD: [N, B, D]; queue_NKD: [N, K, D]; returns scalars.

    Example:
        >>> import torch
        >>> queries = torch.tensor([[[1.0, 0.0]]])  # 1 peer, 1 image, D = 2
        >>> queue = torch.tensor([[[0.0, 1.0]]])
        >>> losses = streamed_losses(queries, queries, queue, LossSpec(alpha=1.0, tau=1.0))
        >>> round(losses.terms["vcl"].item(), 4)  # log(1 + exp(0 - 1))
        0.3133
    """
    num_peers, num_anchors, _ = queries_NBD.shape
    if num_peers > 1 and weights.alpha and not (weights.beta or weights.gamma or weights.lam):
        return _independent_peers(queries_NBD, keys_NBD, queue_NKD, weights, chunk)
    with torch.no_grad(), torch.autocast(queries_NBD.device.type, enabled=False):
        dtype = torch.promote_types(queries_NBD.dtype, torch.float32)
        columns = chunk or max(1, CHUNK_BYTES // (num_peers**2 * num_anchors * dtype.itemsize))
        grid = _Grid(queries_NBD.to(dtype), keys_NBD.to(dtype), queue_NKD.to(dtype), weights.tau, columns)
        passes = _Passes(grid, weights)
    total = torch.stack([passes.weight[name] * value for name, value in passes.values.items()]).sum()
    return Streamed(with_gradient(total, queries_NBD, passes.gradient), passes.values)


def _independent_peers(queries: Tensor, keys: Tensor, queue: Tensor, weights: LossSpec, chunk: int | None) -> Streamed:
    """Compute VCL alone, which needs only the diagonal of the grid."""
    peers = [slice(i, i + 1) for i in range(len(queries))]
    parts = [streamed_losses(queries[i], keys[i], queue[i], weights, chunk=chunk) for i in peers]
    total = torch.stack([part.total for part in parts]).sum()
    return Streamed(total, {"vcl": torch.stack([part.terms["vcl"] for part in parts]).sum()})


class _Chunk(NamedTuple):
    """Consecutive columns of the grid."""

    logits: Tensor
    """[N, N, B, M], peer i's queries and peer j's keys."""
    keys: Tensor
    """[N, M, D], keys of peer j; for the positive column [N, B, D], one key for each anchor."""
    positive: bool
    """True for the positive column."""


class _Grid:
    """The columns of the grid, computed chunk by chunk."""

    def __init__(self, queries: Tensor, keys: Tensor, queue: Tensor, tau: float, columns: int) -> None:
        self.queries, self._keys, self._queue, self._tau, self._columns = queries, keys, queue, tau, columns

    def chunks(self) -> Iterator[_Chunk]:
        """Yield the positive column, then the queue in chunks."""
        positive = torch.einsum("ibd,jbd->ijb", self.queries, self._keys)[..., None] / self._tau
        yield _Chunk(positive, self._keys, positive=True)
        flat = (self.queries / self._tau).flatten(0, 1)
        for keys in torch.split(self._queue, self._columns, dim=1):
            logits = (flat @ keys.mT).view(len(keys), *self.queries.shape[:2], -1)  # [j, i, B, M]
            yield _Chunk(logits.transpose(0, 1), keys, positive=False)

    def query_gradient(self, chunk: _Chunk, gradient_NNBM: Tensor) -> Tensor:
        """Return the gradient of the queries, [N, B, D], for a gradient of a chunk's logits."""
        if chunk.positive:
            return torch.einsum("ijb,jbd->ibd", gradient_NNBM[..., 0], chunk.keys) / self._tau
        by_keys = gradient_NNBM.transpose(0, 1).flatten(1, 2)  # [j, i·B, M]
        return (by_keys @ chunk.keys).sum(0).view(self.queries.shape) / self._tau


class _Passes:
    """The two passes over the columns for one batch: values of the terms, and the gradient of their weighted sum."""

    def __init__(self, grid: _Grid, weights: LossSpec) -> None:
        num_peers, num_anchors, _ = grid.queries.shape
        all_weights = {"vcl": weights.alpha, "icl": weights.beta, "soft_vcl": weights.gamma, "soft_icl": weights.lam}
        self.weight = {
            name: weight for name, weight in all_weights.items() if weight and (num_peers > 1 or name == "vcl")
        }
        """Weight of each term that is computed."""
        self.values = {name: grid.queries.new_zeros(()) for name in self.weight}
        self.gradient = torch.zeros_like(grid.queries)
        """[N, B, D], gradient of the weighted sum with respect to the queries."""
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
            self.gradient += grid.query_gradient(chunk, gradient)

    def _normalisers(self, grid: _Grid) -> tuple[Tensor, Tensor]:
        """Return log Σ exp over all columns, [N, N, B, 1], of the logits and of the logits / T."""
        num_peers, num_anchors, _ = grid.queries.shape
        hard = soft = grid.queries.new_full((num_peers, num_peers, num_anchors, 1), -torch.inf)
        for chunk in grid.chunks():
            hard = torch.logaddexp(hard, chunk.logits.logsumexp(-1, keepdim=True))
            soft = torch.logaddexp(soft, (chunk.logits / self._temperature).logsumexp(-1, keepdim=True))
        return hard, soft

    def _add_hard(self, chunk: _Chunk, normaliser: Tensor, gradient: Tensor) -> None:
        """Add a chunk's part of the cross-entropy with the first column as target (paper, eqs. 2 and 4)."""
        log_p = chunk.logits - normaliser
        if chunk.positive:
            within, whole = (-part.sum() / self._num_anchors for part in (diagonal(log_p), log_p))
            for name, value in (("vcl", within), ("icl", whole - within)):
                if name in self.values:
                    self.values[name] += value
        difference = log_p.exp_().sub_(float(chunk.positive))
        gradient.addcmul_(difference, self._hard_weight, value=1 / self._num_anchors)

    def _add_soft(self, chunk: _Chunk, normaliser: Tensor, gradient: Tensor) -> None:
        """Add a chunk's part of the sums over columns in `terms.soft_vcl` and `terms.soft_icl` (paper, eqs. 3, 5)."""
        scale = self._temperature / self._num_anchors
        log_q = (chunk.logits / self._temperature).sub_(normaliser)
        if "soft_vcl" in self.values:
            log_q_NBM = diagonal(log_q)
            q_NBM = log_q_NBM.exp()
            difference = len(q_NBM) * (q_NBM - q_NBM.mean(0))
            self.values["soft_vcl"] += self._temperature * scale * (difference * (log_q_NBM - log_q_NBM.mean(0))).sum()
            diagonal(gradient).add_(difference, alpha=scale * self.weight["soft_vcl"])
        if "soft_icl" in self.values:
            q = log_q.exp()
            difference = q - q.transpose(0, 1)
            log_ratio = log_q - log_q.transpose(0, 1)
            self.values["soft_icl"] += (
                self._temperature * scale / 2 * torch.dot(difference.flatten(), log_ratio.flatten())
            )
            gradient.add_(difference, alpha=scale * self.weight["soft_icl"])
