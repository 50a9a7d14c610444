"""Supervised Mutual Contrastive Learning with contrast from the batch (the CIFAR regime).

N peers, B images, C classes, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mcl_ray.cohort import CohortOutput
from mcl_ray.contrast.in_batch import in_batch_grid
from mcl_ray.distributed import ALONE, Shares, gather
from mcl_ray.losses.distill import logit_distillation
from mcl_ray.losses.terms import contrastive_terms
from mcl_ray.spec import LossSpec

WEIGHT_OF_TERM = {"vcl": "alpha", "icl": "beta", "soft_vcl": "gamma", "soft_icl": "lam"}


class Batch(NamedTuple):
    """Images with what is known of them."""

    images: Tensor
    """[B, channels, height, width] float32, normalised."""
    labels: Tensor
    """[B] int64 class indices."""
    image_ids: Tensor
    """[B] int64, equal for the same image."""
    shares: Shares = ALONE
    """Who has how much of the whole batch."""


class StepLosses(NamedTuple):
    """What one step yields."""

    total: Tensor
    """The weighted sum that is differentiated, a scalar."""
    terms: dict[str, Tensor]
    """Every unweighted summand by name: `cross_entropy` and whichever terms are on."""
    logits: Tensor
    """[N, B, C], detached."""


def supervised_losses(
    cohort: Callable[[Tensor], CohortOutput], batch: Batch, weights: LossSpec, *, bf16: bool = False
) -> StepLosses:
    """Σ cross-entropy + logit distillation + alpha·VCL + beta·ICL + gamma·Soft-VCL + lam·Soft-ICL.

    With `bf16` the networks run under autocast; every loss is computed in float32.

    `batch` is this worker's part. The losses' means over all workers are the losses of the whole batch; with
    weights.contrast = "local", each worker's images are a contrast set of their own.
    """
    with torch.autocast(batch.images.device.type, dtype=torch.bfloat16, enabled=bf16):
        output = cohort(batch.images)
    logits = output.logits.float()
    terms = {"cross_entropy": batch.shares.weight * _cross_entropy(logits, batch.labels)}
    if weights.logit_distillation != "off":
        distilled = logit_distillation(logits, weights.temperature, weights.logit_distillation)
        terms["logit_distillation"] = batch.shares.weight * distilled
    if teaches_heads(weights, len(logits)):
        terms |= _contrast(output.embeddings, batch, weights)
    return StepLosses(weighted_sum(terms, weights), terms, logits.detach())


def _contrast(embeddings_NBD: Tensor, batch: Batch, weights: LossSpec) -> dict[str, Tensor]:
    """The contrastive terms of the whole batch, or of this worker's part of it."""
    labels, image_ids, shares = batch.labels, batch.image_ids, batch.shares
    if weights.contrast == "global":
        embeddings_NBD = gather(embeddings_NBD, shares, dim=1)
        labels, image_ids = gather(torch.stack([labels, image_ids]), shares, dim=1)
    terms = contrastive_terms(in_batch_grid(embeddings_NBD, labels, image_ids, weights.tau), weights)
    if weights.contrast == "global":
        return terms
    return {name: shares.weight * term for name, term in terms.items()}


def teaches_heads(weights: LossSpec, num_peers: int) -> bool:
    """Whether any contrastive term is on, so that embeddings are compared; one peer has no pairs."""
    return any((weights.alpha, num_peers > 1 and any((weights.beta, weights.gamma, weights.lam))))


def weighted_sum(terms: dict[str, Tensor], weights: LossSpec) -> Tensor:
    """The total loss; summands that have no weight of their own count once."""
    scale = {name: getattr(weights, weight) for name, weight in WEIGHT_OF_TERM.items()}
    return torch.stack([scale.get(name, 1.0) * value for name, value in terms.items()]).sum()


def _cross_entropy(logits_NBC: Tensor, labels_B: Tensor) -> Tensor:
    """Σ over peers of the mean cross-entropy."""
    num_peers, batch_size, _ = logits_NBC.shape
    summed: Tensor = F.cross_entropy(logits_NBC.flatten(0, 1), labels_B.repeat(num_peers), reduction="sum")
    return summed / batch_size
