"""Supervised Mutual Contrastive Learning with contrast from the batch (the CIFAR regime).

N peers, B images, D embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mcl_ray.cohort import CohortOutput
from mcl_ray.config.spec import LossSpec
from mcl_ray.contrast.in_batch import in_batch_grid
from mcl_ray.distributed import gather
from mcl_ray.losses.distill import logit_distillation
from mcl_ray.losses.terms import contrastive_terms
from mcl_ray.methods.method import (
    Batch,
    OnePassMethod,
    Peers,
    StepLosses,
    cross_entropy,
    outputs,
    uses_contrastive_terms,
    weighted_sum,
)


class Supervised(OnePassMethod):
    """Cross-entropy and contrast with the other images of the batch (Yang et al., AAAI 2022, arXiv 2104.12565)."""

    def losses_of(self, batch: Batch, output: CohortOutput) -> StepLosses:
        """Compute the losses of a batch, see `supervised_losses`."""
        return _losses_of(output, batch, self.weights)


def supervised_losses(cohort: Peers, batch: Batch, weights: LossSpec, *, bf16: bool = False) -> StepLosses:
    """Compute Σ_i cross-entropy_i + logit distillation + alpha·VCL + beta·ICL + gamma·Soft-VCL + lam·Soft-ICL.

    Yang et al., AAAI 2022 (arXiv 2104.12565), eqs. 2 to 5 for the contrastive terms.

    Args:
        cohort: the cohort, or the module that wraps it for data parallelism.
        batch: this worker's part of the batch. The mean of the losses over all workers is the loss of the whole batch.
        weights: weights and temperatures; with `contrast="local"`, each worker's images form a contrast set of their
            own.
        bf16: run the networks under autocast; every loss is computed in float32.
    """
    return _losses_of(outputs(cohort, batch.images, bf16=bf16), batch, weights)


def _losses_of(output: CohortOutput, batch: Batch, weights: LossSpec) -> StepLosses:
    terms = {"cross_entropy": cross_entropy(output.logits, batch)}
    if weights.logit_distillation != "off":
        distillation = logit_distillation(output.logits, weights.temperature, weights.logit_distillation)
        terms["logit_distillation"] = batch.shares.weight * distillation
    if uses_contrastive_terms(weights, len(output.logits)):
        terms |= _contrast(output.embeddings, batch, weights)
    return StepLosses(weighted_sum(terms, weights), terms)


def _contrast(embeddings_NBD: Tensor, batch: Batch, weights: LossSpec) -> dict[str, Tensor]:
    """Compute the contrastive terms of the whole batch, or of this worker's part of it."""
    labels, image_ids, shares = batch.labels, batch.image_ids, batch.shares
    if weights.contrast == "global":
        embeddings_NBD = gather(embeddings_NBD, shares, dim=1)
        labels, image_ids = gather(torch.stack([labels, image_ids]), shares, dim=1)
    terms = contrastive_terms(in_batch_grid(embeddings_NBD, labels, image_ids, weights.tau), weights)
    if weights.contrast == "global":
        return terms
    return {name: shares.weight * term for name, term in terms.items()}
