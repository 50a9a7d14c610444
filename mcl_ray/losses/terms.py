"""The four terms of Mutual Contrastive Learning. Read this first.

Yang, An, Cai, Xu: Mutual Contrastive Learning for Visual Representation Learning, AAAI 2022 (arXiv 2104.12565).

    total = Σ_i cross-entropy_i + alpha·VCL + gamma·Soft-VCL + beta·ICL + lam·Soft-ICL

All four come from one grid of logits [N, N, B, M]: entry (i, j) compares peer i's embeddings with peer j's contrast
set. The diagonal is "vanilla" contrast within a peer, the rest is "interactive" contrast across peers. Hard terms
contrast with labels; soft terms let one entry's distribution mimic another's. Sums over peers and pairs, never means.

N peers, B anchors, M entries of the contrast set.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mcl_ray.config.spec import LossSpec
from mcl_ray.losses.grid import ContrastGrid


def contrastive_terms(grid: ContrastGrid, weights: LossSpec) -> dict[str, Tensor]:
    """The unweighted terms whose weight is not zero: `vcl`, `soft_vcl`, `icl`, `soft_icl`.

    A term of weight zero is left out, not multiplied by zero: zero times NaN is NaN, and it would cost time. A cohort
    of one peer has no pairs, so only VCL.

    Shape:
        grid.logits: [N, N, B, M]; every value returned is a scalar.
    """
    has_pairs = grid.logits.shape[0] > 1
    terms: dict[str, Tensor] = {}
    if weights.beta and has_pairs:
        hard_NN = hard_contrast(grid.logits, grid.positives, grid.valid)
        within = hard_NN.diagonal().sum()  # the backward of trace() would wait for the device
        if weights.alpha:
            terms["vcl"] = within
        terms["icl"] = hard_NN.sum() - within
    elif weights.alpha:
        terms["vcl"] = hard_contrast(*(diagonal(t) for t in (grid.logits, grid.positives, grid.valid))).sum()
    if weights.gamma and has_pairs:
        terms["soft_vcl"] = soft_vcl(diagonal(grid.logits)[..., grid.own_slots :], weights.temperature)
    if weights.lam and has_pairs:
        terms["soft_icl"] = soft_icl(grid.logits, weights.temperature)
    return terms


def hard_contrast(logits: Tensor, positives: Tensor, valid: Tensor) -> Tensor:
    """Supervised contrastive loss of each entry of the grid (paper, eqs. 2 and 4).

    −mean over anchors of mean over positives of log softmax. An anchor without a positive has no defined loss and is
    left out of the mean; if there is none with one, the loss is zero.

    Shape:
        logits: [..., B, M]; positives, valid: bool, broadcastable to its first P entries; returns [...].
    """
    masked = logits[..., : positives.shape[-1]]
    log_denominator = masked.masked_fill(~valid, torch.finfo(logits.dtype).min).logsumexp(-1)
    if masked.shape != logits.shape:
        log_denominator = log_denominator.logaddexp(logits[..., positives.shape[-1] :].logsumexp(-1))
    count = positives.sum(-1)
    anchors = (count > 0).expand_as(log_denominator)
    mean_positive = (masked * positives).sum(-1) / count.clamp(min=1)
    losses = torch.where(anchors, log_denominator - mean_positive, 0.0)
    return losses.sum(-1) / anchors.sum(-1).clamp(min=1)


def soft_vcl(logits_NBM: Tensor, temperature: float) -> Tensor:
    """Soft-VCL: every peer's own distribution learns from every other's (paper, eq. 3).

    Σ over ordered pairs i≠j of KL(student i, teacher j), teachers detached. With Q the peers' softmaxes at temperature
    T and a bar for the mean over peers, the N(N−1) divergences add up to T²/B · N Σ_i ⟨Q_i − Q̄, log Q_i − mean log Q⟩,
    and their gradient by logits i is T/B · N (Q_i − Q̄): N products, and no difference of large numbers.

    Shape:
        logits_NBM: the diagonal of the grid, [N, B, M]; returns a scalar.
    """
    num_peers, num_anchors, _ = logits_NBM.shape
    with torch.no_grad():
        log_q = (logits_NBM / temperature).log_softmax(-1)
        q = log_q.exp()
        apart = num_peers * (q - q.mean(0))
        value = temperature**2 / num_anchors * (apart * (log_q - log_q.mean(0))).sum()
    return with_gradient(value, logits_NBM, temperature / num_anchors * apart)


def soft_icl(logits_NNBM: Tensor, temperature: float) -> Tensor:
    """Soft-ICL: the two directions of each pair learn from each other (paper, eq. 5).

    Σ over unordered pairs i<j of KL((i,j), (j,i)) + KL((j,i), (i,j)), teachers detached. With P the grid's softmaxes
    at temperature T and Pᵀ the same with the peers exchanged, that is T²/B · ½ ⟨P − Pᵀ, log P − log Pᵀ⟩ over the whole
    grid, and its gradient is T/B · (P − Pᵀ). A diagonal entry is its own transpose and adds nothing.

    Shape:
        logits_NNBM: [N, N, B, M]; returns a scalar.
    """
    num_anchors = logits_NNBM.shape[2]
    with torch.no_grad():
        log_p = (logits_NNBM / temperature).log_softmax(-1)
        p = log_p.exp()
        apart = p - p.transpose(0, 1)
        value = temperature**2 / num_anchors / 2 * (apart * (log_p - log_p.transpose(0, 1))).sum()
    return with_gradient(value, logits_NNBM, temperature / num_anchors * apart)


def diagonal(tensor: Tensor) -> Tensor:
    """Entries (i, i) of a grid: [N, N, ...] → [N, ...]; axes of size one stay as they are."""
    return tensor.diagonal(dim1=0, dim2=1).movedim(-1, 0)


def with_gradient(value: Tensor, wrt: Tensor, gradient: Tensor) -> Tensor:
    """`value`, differentiable by `wrt` with this gradient. The teachers are detached, so it is not autograd's own."""
    linear = (gradient * wrt).sum()
    return value + (linear - linear.detach())
