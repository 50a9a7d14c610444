"""Products of embeddings with slots gathered from memory banks.

Gathered slots are never stored: they are gathered in the forward and again in the backward pass, a few anchors at once.

N peers, B images, D embedding, n slots of a bank, M slots of an anchor.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

GATHERED_BYTES = 2**26
"""Approximate size of one gather."""


def gathered_products(embeddings_NBD: Tensor, banks_NnD: Tensor, slots_BM: Tensor) -> Tensor:
    """Compute embeddings[i, a] · banks[j, slots[a, m]] for all i, j, a and m.

    The products of memory banks (Wu et al., CVPR 2018, arXiv 1805.01978, eq. 2), between all pairs of peers:

        p_ij[a, m] = e_i[a] · bank_j[slots[a, m]]

    The result is differentiable once with respect to the embeddings. Only the indices are stored for the backward pass,
    none of the gathered tensors [B, M, D].

    Args:
        embeddings_NBD: embeddings e_i of the batch by each peer.
        banks_NnD: each peer's memory bank.
        slots_BM: indices of the slots of each anchor, the same for every peer.

    Shape:
        embeddings_NBD: [N, B, D]; banks_NnD: [N, n, D]; slots_BM: [B, M] int64; returns [N, N, B, M] of the dtype to
        which embeddings and banks promote.

    Example:
        >>> import torch
        >>> embeddings = torch.tensor([[[1.0, 2.0]]])  # 1 peer, 1 anchor, D = 2
        >>> banks = torch.eye(2)[None]  # n = 2 slots
        >>> gathered_products(embeddings, banks, torch.tensor([[1, 0, 1]])).tolist()
        [[[[2.0, 1.0, 2.0]]]]
    """
    dtype = torch.promote_types(embeddings_NBD.dtype, banks_NnD.dtype)
    return cast("Tensor", _GatheredProducts.apply(embeddings_NBD.to(dtype), banks_NnD, slots_BM))


class _GatheredProducts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, embeddings_NBD: Tensor, banks_NnD: Tensor, slots_BM: Tensor) -> Tensor:
        ctx.save_for_backward(slots_BM)
        # not save_for_backward: torch would reject the bank in the backward pass once it has changed in place
        ctx.banks, ctx.dtype = banks_NnD, embeddings_NBD.dtype
        num_peers = len(embeddings_NBD)
        products_BNNM = embeddings_NBD.new_empty(len(slots_BM), num_peers, len(banks_NnD), slots_BM.shape[1])
        embeddings_BND = embeddings_NBD.transpose(0, 1)
        for bank, rows, gathered_bMD in _gathers(banks_NnD, slots_BM, ctx.dtype):
            products_BNNM[rows, :, bank] = embeddings_BND[rows] @ gathered_bMD.mT
        return products_BNNM.permute(1, 2, 0, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_NNBM: Tensor) -> tuple[Tensor, None, None]:
        (slots_BM,) = ctx.saved_tensors
        gradient_BNNM = gradient_NNBM.permute(2, 0, 1, 3)
        num_peers, dim = gradient_NNBM.shape[0], ctx.banks.shape[-1]
        embeddings_BND = gradient_NNBM.new_zeros(len(slots_BM), num_peers, dim)
        for bank, rows, gathered_bMD in _gathers(ctx.banks, slots_BM, ctx.dtype):
            embeddings_BND[rows] += gradient_BNNM[rows, :, bank] @ gathered_bMD
        return embeddings_BND.transpose(0, 1), None, None


def _gathers(banks_NnD: Tensor, slots_BM: Tensor, dtype: torch.dtype) -> Iterator[tuple[int, slice, Tensor]]:
    """Yield (bank, anchors, gathered slots [anchors, M, D]) for every bank, a few anchors at a time."""
    num_slots, dim = slots_BM.shape[1], banks_NnD.shape[-1]
    step = max(1, GATHERED_BYTES // (num_slots * dim * dtype.itemsize))
    for bank, slots_nD in enumerate(banks_NnD):
        for start in range(0, len(slots_BM), step):
            rows = slice(start, start + step)
            chosen = slots_nD.index_select(0, slots_BM[rows].flatten())
            yield bank, rows, chosen.view(-1, num_slots, dim).to(dtype)
