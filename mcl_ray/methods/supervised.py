"""Supervised Mutual Contrastive Learning with contrast from the batch (the CIFAR regime).

K runs, N peers, B images, D embedding, T terms.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Self

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
    weight_of,
    weighted_sum,
)

TEMPERATURES = "tau", "temperature"
"""Fields of the losses that may differ between runs whose losses are computed in one evaluation, beside the weights."""


class Supervised(OnePassMethod):
    """Cross-entropy and contrast with the other images of the batch (Yang et al., AAAI 2022, arXiv 2104.12565)."""

    def losses_of(self, batch: Batch, output: CohortOutput) -> StepLosses:
        """Compute the losses of a batch, see `supervised_losses`."""
        return _losses_of(output, batch, self.weights)

    @classmethod
    def losses_of_runs(
        cls, methods: Sequence[Self], batches: Sequence[Batch], outputs: Sequence[CohortOutput]
    ) -> list[StepLosses]:
        """Compute the losses of each of K runs; those with the same terms and as many peers in one evaluation."""
        if cls.losses_of is not Supervised.losses_of:
            return super().losses_of_runs(methods, batches, outputs)
        alike: dict[Hashable, list[int]] = {}
        for k, (method, output) in enumerate(zip(methods, outputs, strict=True)):
            alike.setdefault(_form(method.weights, output, k), []).append(k)
        found: dict[int, StepLosses] = {}
        for runs in alike.values():
            weights = [methods[k].weights for k in runs]
            losses = _losses_of_alike([outputs[k] for k in runs], [batches[k] for k in runs], weights)
            found |= zip(runs, losses, strict=True)
        return [found[k] for k in range(len(methods))]


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
    terms = _terms(output, batch, weights)
    return StepLosses(weighted_sum(terms, weights), terms)


def _form(weights: LossSpec, output: CohortOutput, run: int) -> Hashable:
    """Return what must be equal for one evaluation; a plugin's terms may not be ready for it, so are the run's own."""
    if any(weights.extra.values()):
        return run
    computed = bool(weights.alpha), bool(weights.beta), bool(weights.gamma), bool(weights.lam)
    return computed, weights.logit_distillation, weights.contrast, output.logits.shape, output.embeddings.shape


def _losses_of_alike(
    outputs: Sequence[CohortOutput], batches: Sequence[Batch], weights: Sequence[LossSpec]
) -> list[StepLosses]:
    """Compute the losses of K runs of one form: each operation is one for all of them."""
    if len(outputs) == 1:
        return [_losses_of(outputs[0], batches[0], weights[0])]

    def terms_of(output: CohortOutput, labels: Tensor, image_ids: Tensor, temperatures: dict[str, Tensor]) -> Any:
        batch = batches[0]._replace(labels=labels, image_ids=image_ids)
        return _terms(output, batch, weights[0].model_copy(update=temperatures))

    logits, embeddings = (torch.stack(values) for values in zip(*outputs, strict=True))
    labels, image_ids = (torch.stack([getattr(one, name) for one in batches]) for name in ("labels", "image_ids"))
    temperatures = {name: logits.new_tensor([getattr(one, name) for one in weights]) for name in TEMPERATURES}
    terms_K = torch.vmap(terms_of)(CohortOutput(logits, embeddings), labels, image_ids, temperatures)
    weights_TK = logits.new_tensor([[weight_of(name, one) for one in weights] for name in terms_K])
    totals = (weights_TK * torch.stack([*terms_K.values()])).sum(0).unbind()
    each = zip(*(values.unbind() for values in terms_K.values()), strict=True)
    return [StepLosses(total, dict(zip(terms_K, own, strict=True))) for total, own in zip(totals, each, strict=True)]


def _terms(output: CohortOutput, batch: Batch, weights: LossSpec) -> dict[str, Tensor]:
    terms = {"cross_entropy": cross_entropy(output.logits, batch)}
    if weights.logit_distillation != "off":
        distillation = logit_distillation(output.logits, weights.temperature, weights.logit_distillation)
        terms["logit_distillation"] = batch.shares.weight * distillation
    if uses_contrastive_terms(weights, len(output.logits)):
        terms |= _contrast(output.embeddings, batch, weights)
    return terms


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
