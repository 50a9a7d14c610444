"""Supervised Mutual Contrastive Learning with contrast from the batch (the CIFAR regime).

N peers, B images, C classes, D embedding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mcl_ray.cohort import Cohort
from mcl_ray.contrast.in_batch import in_batch_grid
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


class StepLosses(NamedTuple):
    """What one step yields."""

    total: Tensor
    """The weighted sum that is differentiated, a scalar."""
    terms: dict[str, Tensor]
    """Every unweighted summand by name: `cross_entropy` and whichever terms are on."""
    logits: Tensor
    """[N, B, C], detached."""


def supervised_losses(cohort: Cohort, batch: Batch, weights: LossSpec, *, bf16: bool = False) -> StepLosses:
    """Σ cross-entropy + logit distillation + alpha·VCL + beta·ICL + gamma·Soft-VCL + lam·Soft-ICL.

    With `bf16` the networks run under autocast; every loss is computed in float32.
    """
    with torch.autocast(batch.images.device.type, dtype=torch.bfloat16, enabled=bf16):
        output = cohort(batch.images)
    logits = output.logits.float()
    terms = {"cross_entropy": _cross_entropy(logits, batch.labels)}
    if weights.logit_distillation != "off":
        terms["logit_distillation"] = logit_distillation(logits, weights.temperature, weights.logit_distillation)
    if any(getattr(weights, name) for name in WEIGHT_OF_TERM.values()):
        grid = in_batch_grid(output.embeddings, batch.labels, batch.image_ids, weights.tau)
        terms |= contrastive_terms(grid, weights)
    return StepLosses(weighted_sum(terms, weights), terms, logits.detach())


def weighted_sum(terms: dict[str, Tensor], weights: LossSpec) -> Tensor:
    """The total loss; summands that have no weight of their own count once."""
    scale = {name: getattr(weights, weight) for name, weight in WEIGHT_OF_TERM.items()}
    return torch.stack([scale.get(name, 1.0) * value for name, value in terms.items()]).sum()


def _cross_entropy(logits_NBC: Tensor, labels_B: Tensor) -> Tensor:
    """Σ over peers of the mean cross-entropy."""
    num_peers, batch_size, _ = logits_NBC.shape
    summed: Tensor = F.cross_entropy(logits_NBC.flatten(0, 1), labels_B.repeat(num_peers), reduction="sum")
    return summed / batch_size
