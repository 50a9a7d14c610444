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

from mcl_ray.losses.terms import diagonal, with_gradient
from mcl_ray.spec import LossSpec

CHUNK = 4096
"""Keys of each queue that are looked at together."""


class _Chunk(NamedTuple):
    """Some columns of the grid."""

    keys: Tensor
    """[N, B or 1, M, D], of each peer's contrast set; one for all anchors, or one for each."""
    positive: bool
    """Whether they are what the anchors are to be close to."""

    def logits(self, queries_NBD: Tensor, tau: float) -> Tensor:
        """[N, N, B, M], peer i's queries against peer j's keys."""
        if self.positive:
            return torch.einsum("ibd,jbmd->ijbm", queries_NBD, self.keys) / tau
        return torch.einsum("ibd,jmd->ijbm", queries_NBD, self.keys[:, 0]) / tau

    def pulled(self, gradient_NNBM: Tensor, tau: float) -> Tensor:
        """What a gradient of the logits is to the queries, [N, B, D]."""
        if self.positive:
            return torch.einsum("ijbm,jbmd->ibd", gradient_NNBM, self.keys) / tau
        return torch.einsum("ijbm,jmd->ibd", gradient_NNBM, self.keys[:, 0]) / tau


def streamed_terms(
    queries_NBD: Tensor, keys_NBD: Tensor, queue_NKD: Tensor, weights: LossSpec, *, chunk: int = CHUNK
) -> dict[str, Tensor]:
    """The unweighted terms whose weight is not zero, of queries against their keys and a queue of others.

    Entry (i, j) of the grid is [q_i·k_j, q_i·queue_j] / tau, its first column the only positive (MoCo: He et al., CVPR
    2020, arXiv 1911.05722). Gradients reach the queries alone.

    Shape:
        queries_NBD, keys_NBD: [N, B, D] of unit length; queue_NKD: [N, K, D]; every value returned is a scalar.
    """
    with torch.no_grad(), torch.autocast(queries_NBD.device.type, enabled=False):
        dtype = torch.promote_types(queries_NBD.dtype, torch.float32)
        work = _Work(queries_NBD.to(dtype), keys_NBD.to(dtype), queue_NKD.to(dtype), weights, chunk)
        sums = work.sums()
    return {name: with_gradient(one.value, queries_NBD, one.gradient) for name, one in sums.items()}


class _Sum:
    """A term as it comes together."""

    def __init__(self, queries_NBD: Tensor) -> None:
        self.value = queries_NBD.new_zeros(())
        self.gradient = torch.zeros_like(queries_NBD)
        """[N, B, D] of the queries."""


class _Work:
    """One batch's passes over the columns."""

    def __init__(self, queries: Tensor, keys: Tensor, queue: Tensor, weights: LossSpec, chunk: int) -> None:
        self._queries, self._keys, self._queue = queries, keys, queue
        self._weights, self._chunk = weights, chunk
        num_peers = len(queries)
        pairs = num_peers > 1
        wanted = {"vcl": weights.alpha, "icl": weights.beta, "soft_vcl": weights.gamma, "soft_icl": weights.lam}
        self._names = [name for name, weight in wanted.items() if weight and (pairs or name == "vcl")]
        self._within = torch.eye(num_peers, dtype=queries.dtype, device=queries.device)[:, :, None, None]

    def sums(self) -> dict[str, _Sum]:
        """Every wanted term."""
        hard, soft = self._normalisers()
        sums = {name: _Sum(self._queries) for name in self._names}
        for chunk in self._chunks():
            logits = chunk.logits(self._queries, self._weights.tau)
            if {"vcl", "icl"} & sums.keys():
                self._add_hard(sums, chunk, logits, hard)
            if "soft_vcl" in sums:
                self._add_soft_vcl(sums["soft_vcl"], chunk, logits, soft)
            if "soft_icl" in sums:
                self._add_soft_icl(sums["soft_icl"], chunk, logits, soft)
        return sums

    def _chunks(self) -> Iterator[_Chunk]:
        yield _Chunk(self._keys[:, :, None], positive=True)
        for keys in torch.split(self._queue, self._chunk, dim=1):
            yield _Chunk(keys[:, None], positive=False)

    def _normalisers(self) -> tuple[Tensor, Tensor]:
        """Log Σ exp over all columns, [N, N, B, 1]: of the logits, and of them at the distillation temperature."""
        shape = (len(self._queries), *self._queries.shape[:2], 1)
        hard = soft = self._queries.new_full(shape, -torch.inf)
        for chunk in self._chunks():
            logits = chunk.logits(self._queries, self._weights.tau)
            hard = torch.logaddexp(hard, logits.logsumexp(-1, keepdim=True))
            soft = torch.logaddexp(soft, (logits / self._weights.temperature).logsumexp(-1, keepdim=True))
        return hard, soft

    def _add_hard(self, sums: dict[str, _Sum], chunk: _Chunk, logits: Tensor, normaliser: Tensor) -> None:
        """Cross-entropy with the first column as target (paper, eqs. 2 and 4)."""
        log_p = logits - normaliser
        gradient = (log_p.exp() - float(chunk.positive)) / logits.shape[2]
        for name, entries in (("vcl", self._within), ("icl", 1 - self._within)):
            if name in sums:
                if chunk.positive:
                    sums[name].value -= (log_p * entries).sum() / logits.shape[2]
                sums[name].gradient += chunk.pulled(gradient * entries, self._weights.tau)

    def _add_soft_vcl(self, total: _Sum, chunk: _Chunk, logits: Tensor, normaliser: Tensor) -> None:
        """See `terms.soft_vcl`, whose sum over columns this is a part of (paper, eq. 3)."""
        num_peers, temperature = len(logits), self._weights.temperature
        log_q = diagonal(logits) / temperature - diagonal(normaliser)
        q = log_q.exp()
        apart = num_peers * (q - q.mean(0))
        scale = temperature / logits.shape[2]
        total.value += temperature * scale * (apart * (log_q - log_q.mean(0))).sum()
        total.gradient += chunk.pulled(scale * apart[:, None] * self._within, self._weights.tau)

    def _add_soft_icl(self, total: _Sum, chunk: _Chunk, logits: Tensor, normaliser: Tensor) -> None:
        """See `terms.soft_icl`, whose sum over columns this is a part of (paper, eq. 5)."""
        temperature = self._weights.temperature
        log_p = logits / temperature - normaliser
        p = log_p.exp()
        apart = p - p.transpose(0, 1)
        scale = temperature / logits.shape[2]
        total.value += temperature * scale / 2 * (apart * (log_p - log_p.transpose(0, 1))).sum()
        total.gradient += chunk.pulled(scale * apart, self._weights.tau)
