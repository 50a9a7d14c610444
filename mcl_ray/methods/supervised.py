"""Supervised Mutual Contrastive Learning with contrast from the batch (the CIFAR regime).

N peers, B images, C classes, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

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


Peers = Callable[[Tensor], CohortOutput]
"""A cohort, or what trains it together with other workers: images [B, C, H, W] → what training needs of every peer."""


class Supervised:
    """The method as the loop drives it: nothing is remembered from step to step.

    Args:
        peers: the cohort, or what trains it together with other workers.
        weights: of the losses.
        bf16: whether the networks run under autocast.
    """

    def __init__(self, peers: Peers, weights: LossSpec, *, bf16: bool) -> None:
        self.peers, self.weights, self.bf16 = peers, weights, bf16

    def begin(self, seed: int, epoch: int) -> None:
        """Be told which epoch the next batches are of."""

    def losses(self, batch: Batch) -> StepLosses:
        """What a step is to make smaller."""
        return supervised_losses(self.peers, batch, self.weights, bf16=self.bf16)

    def remember(self) -> None:
        """Be told that the optimiser has made the step."""

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs, beside the cohort."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""


def supervised_losses(cohort: Peers, batch: Batch, weights: LossSpec, *, bf16: bool = False) -> StepLosses:
    """Σ cross-entropy + logit distillation + alpha·VCL + beta·ICL + gamma·Soft-VCL + lam·Soft-ICL.

    With `bf16` the networks run under autocast; every loss is computed in float32.

    `batch` is this worker's part. The losses' means over all workers are the losses of the whole batch; with
    weights.contrast = "local", each worker's images are a contrast set of their own.
    """
    output = outputs(cohort, batch.images, bf16=bf16)
    terms = {"cross_entropy": cross_entropy(output.logits, batch)}
    if weights.logit_distillation != "off":
        distilled = logit_distillation(output.logits, weights.temperature, weights.logit_distillation)
        terms["logit_distillation"] = batch.shares.weight * distilled
    if teaches_heads(weights, len(output.logits)):
        terms |= _contrast(output.embeddings, batch, weights)
    return StepLosses(weighted_sum(terms, weights), terms, output.logits.detach())


def outputs(cohort: Peers, images: Tensor, *, bf16: bool) -> CohortOutput:
    """What the cohort makes of images, in float32, whatever the networks computed in."""
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bf16):
        output = cohort(images)
    return CohortOutput(output.logits.float(), output.embeddings)


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


def cross_entropy(logits_NBC: Tensor, batch: Batch) -> Tensor:
    """Σ over peers of the mean cross-entropy, this worker's part of the whole batch's."""
    num_peers, batch_size, _ = logits_NBC.shape
    summed: Tensor = F.cross_entropy(logits_NBC.flatten(0, 1), batch.labels.repeat(num_peers), reduction="sum")
    return batch.shares.weight * (summed / batch_size)
