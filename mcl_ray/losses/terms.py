"""The four terms of Mutual Contrastive Learning. Start here.

Yang, An, Cai, Xu: Mutual Contrastive Learning for Visual Representation Learning, AAAI 2022 (arXiv 2104.12565).

    total = Σ_i cross-entropy_i + alpha·VCL + gamma·Soft-VCL + beta·ICL + lam·Soft-ICL

All four come from one grid of logits [N, N, B, M]: entry (i, j) compares peer i's embeddings with peer j's contrast
set. The diagonal is "vanilla" contrast within a peer, the rest is "interactive" contrast across peers. Hard terms
(VCL, ICL) contrast positives with negatives; soft terms distil one entry's distribution into another's:

    KL(s, t) = T²/B · Σ_a Σ_m softmax(t[a]/T)[m] · (log softmax(t[a]/T)[m] − log softmax(s[a]/T)[m])

with the teacher t detached. All terms are sums over peers and pairs of peers, never means.

N peers, B anchors, M entries of the contrast set, P of them with masks, T the distillation temperature.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mcl_ray.config.spec import LossSpec
from mcl_ray.losses.extra import extra_terms
from mcl_ray.losses.grid import ContrastGrid


def contrastive_terms(grid: ContrastGrid, weights: LossSpec) -> dict[str, Tensor]:
    """Compute the unweighted terms whose weight is not zero: `vcl`, `soft_vcl`, `icl`, `soft_icl`, those of plugins.

    Yang et al., AAAI 2022 (arXiv 2104.12565), eqs. 2 to 5, for a grid of logits L:

        VCL      = Σ_i       hard(L_ii)                            ICL      = Σ_{i≠j} hard(L_ij)
        Soft-VCL = Σ_{i≠j}   KL(L_ii, L_jj)                        Soft-ICL = Σ_{i<j} KL(L_ij, L_ji) + KL(L_ji, L_ij)

    with `hard` the supervised contrastive loss of `hard_contrast`, and the student first in KL. A term of weight zero
    is omitted, not multiplied by zero: zero times NaN is NaN, and computing it would take time. A cohort of one peer
    has no pairs, so only VCL.

    Args:
        grid: logits and masks of all pairs of peers.
        weights: weights, which select the terms, and the distillation temperature.

    Shape:
        grid.logits: [N, N, B, M]; every value returned is a scalar.

    Example:
        >>> import torch
        >>> from mcl_ray.contrast.in_batch import in_batch_grid
        >>> embeddings = torch.eye(4)[[0, 0, 1, 1]].expand(2, -1, -1)  # 2 equal peers, 4 images, D = 4
        >>> labels, image_ids = torch.tensor([0, 0, 1, 1]), torch.arange(4)
        >>> grid = in_batch_grid(embeddings, labels, image_ids, tau=1.0)
        >>> terms = contrastive_terms(grid, LossSpec(alpha=0.1, beta=0.1, gamma=1.0, lam=1.0))
        >>> {name: round(value.item(), 4) for name, value in terms.items()}
        {'vcl': 1.1029, 'icl': 1.1029, 'soft_vcl': 0.0, 'soft_icl': 0.0}
    """
    has_pairs = grid.logits.shape[0] > 1
    terms: dict[str, Tensor] = {}
    if weights.beta and has_pairs:
        hard_NN = hard_contrast(grid.logits, grid.positives, grid.valid)
        within = hard_NN.diagonal().sum()  # the backward pass of trace() would synchronise with the device
        if weights.alpha:
            terms["vcl"] = within
        terms["icl"] = hard_NN.sum() - within
    elif weights.alpha:
        terms["vcl"] = hard_contrast(*(diagonal(t) for t in (grid.logits, grid.positives, grid.valid))).sum()
    if weights.gamma and has_pairs:
        terms["soft_vcl"] = soft_vcl(diagonal(grid.logits)[..., grid.own_slots :], weights.temperature)
    if weights.lam and has_pairs:
        terms["soft_icl"] = soft_icl(grid.logits, weights.temperature)
    return terms | extra_terms(grid, weights.extra)


def hard_contrast(logits: Tensor, positives: Tensor, valid: Tensor) -> Tensor:
    """Compute the supervised contrastive loss of each entry of the grid.

    Yang et al., AAAI 2022 (arXiv 2104.12565), eqs. 2 (VCL) and 4 (ICL), after Khosla et al., NeurIPS 2020 (arXiv
    2004.11362), with P(a) the positives and V(a) the valid entries of anchor a, positives included:

        −1/B · Σ_a 1/|P(a)| · Σ_{p ∈ P(a)} (logits[a, p] − log Σ_{v ∈ V(a)} exp(logits[a, v]))

    The loss of an anchor without a positive is undefined; it is excluded from the mean. Without any anchor that has a
    positive, the loss is zero.

    Args:
        logits: similarities / tau.
        positives: mask of the positives among the first P entries.
        valid: mask of the entries in the denominator among the first P entries; all entries after them are valid.

    Shape:
        logits: [..., B, M]; positives, valid: bool, broadcastable to [..., B, P]; returns [...].

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 0.0, 1.0]])  # 1 anchor: its positive and two negatives
        >>> positives = torch.tensor([[True, False, False]])
        >>> round(hard_contrast(logits, positives, torch.ones_like(positives)).item(), 4)
        0.4076
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
    """Compute Soft-VCL, mutual distillation between the peers' own distributions.

    Yang et al., AAAI 2022 (arXiv 2104.12565), eq. 3:

        Σ_{i≠j} KL(L_ii, L_jj), over ordered pairs, student first, teachers detached

    With Q_i the softmax of peer i at temperature T and a bar for the mean over peers, the N(N−1) divergences add up to
    T²/B · N · Σ_i ⟨Q_i − Q̄, log Q_i − mean log Q⟩, and their gradient with respect to the logits of peer i is
    T/B · N · (Q_i − Q̄). This takes N products and subtracts no large numbers.

    Args:
        logits_NBM: diagonal of the grid.
        temperature: T.

    Shape:
        logits_NBM: [N, B, M]; returns a scalar.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]])  # 2 peers, 1 anchor, 2 entries
        >>> round(soft_vcl(logits, temperature=1.0).item(), 4)
        0.9242
    """
    num_peers, num_anchors, _ = logits_NBM.shape
    with torch.no_grad():
        log_q = (logits_NBM / temperature).log_softmax(-1)
        q = log_q.exp()
        difference = (q - q.mean(0)).mul_(num_peers)
        value = temperature**2 / num_anchors * (log_q - log_q.mean(0)).mul_(difference).sum()
        gradient = difference.mul_(temperature / num_anchors)
    return with_gradient(value, logits_NBM, gradient)


def soft_icl(logits_NNBM: Tensor, temperature: float) -> Tensor:
    """Compute Soft-ICL, mutual distillation between the two entries (i, j) and (j, i) of each pair of peers.

    Yang et al., AAAI 2022 (arXiv 2104.12565), eq. 5:

        Σ_{i<j} KL(L_ij, L_ji) + KL(L_ji, L_ij), over unordered pairs, student first, teachers detached

    With P the grid's softmax at temperature T, and Pᵀ its transpose in the two peer axes, the sum over pairs is
    T²/B · ½ · ⟨P − Pᵀ, log P − log Pᵀ⟩ over the whole grid, and its gradient is T/B · (P − Pᵀ). A diagonal entry equals
    its transpose and adds zero.

    Args:
        logits_NNBM: the grid.
        temperature: T.

    Shape:
        logits_NNBM: [N, N, B, M]; returns a scalar.

    Example:
        >>> import torch
        >>> logits = torch.zeros(2, 2, 1, 2)  # 2 peers, 1 anchor, 2 entries
        >>> logits[0, 1, 0], logits[1, 0, 0] = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
        >>> round(soft_icl(logits, temperature=1.0).item(), 4)
        0.9242
    """
    num_anchors = logits_NNBM.shape[2]
    with torch.no_grad():
        log_p = (logits_NNBM / temperature).log_softmax(-1)
        p = log_p.exp()
        difference = p - p.transpose(0, 1)
        value = temperature**2 / num_anchors / 2 * (log_p - log_p.transpose(0, 1)).mul_(difference).sum()
        gradient = difference.mul_(temperature / num_anchors)
    return with_gradient(value, logits_NNBM, gradient)


def diagonal(tensor: Tensor) -> Tensor:
    """Return the entries (i, i) of a grid, or of its masks.

    Shape:
        tensor: [N, N, ...]; returns [N, ...]. Masks that all peers share: [1, 1, ...]; returns [1, ...].

    Example:
        >>> import torch
        >>> diagonal(torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]]])).tolist()
        [[1.0], [4.0]]
    """
    return tensor.diagonal(dim1=0, dim2=1).movedim(-1, 0)


def with_gradient(value: Tensor, wrt: Tensor, gradient: Tensor) -> Tensor:
    """Return `value` with `gradient` as its derivative with respect to `wrt`.

    The soft terms need this: their teachers are detached, and the closed form of their value has another derivative.

    Shape:
        value: a scalar; wrt, gradient: any shape, the same for both; returns a scalar.

    Example:
        >>> import torch
        >>> weights = torch.ones(2, requires_grad=True)
        >>> loss = with_gradient(torch.tensor(5.0), weights, torch.tensor([1.0, 2.0]))
        >>> loss.item(), torch.autograd.grad(loss, weights)[0].tolist()
        (5.0, [1.0, 2.0])
    """
    return cast("Tensor", _WithGradient.apply(wrt, value, gradient))


class _WithGradient(torch.autograd.Function):
    @staticmethod
    def forward(wrt: Tensor, value: Tensor, gradient: Tensor) -> Tensor:  # noqa: ARG004 -- gets the gradient
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(inputs[2])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_value: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        axes = (1,) * (gradient.ndim - of_value.ndim)
        return of_value.view(*of_value.shape, *axes) * gradient, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int, int, int], *tensors: Tensor) -> tuple[Tensor, int]:  # noqa: ARG004
        """Compute the values of several losses, along a first axis."""
        tensors = tuple(tensor.movedim(dim, 0) for tensor, dim in zip(tensors, in_dims, strict=True))
        return cast("Tensor", _WithGradient.apply(*tensors)), 0
