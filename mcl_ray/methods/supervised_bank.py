"""Supervised Mutual Contrastive Learning with contrast from memory banks (the ImageNet regime).

N peers, B images of this worker, D embedding.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from mcl_ray.cohort import Cohort, CohortOutput
from mcl_ray.config.spec import LossSpec, RunSpec
from mcl_ray.contrast.bank import MemoryBank, SlotSampler
from mcl_ray.data.augment import epoch_generator
from mcl_ray.data.dataset import Dataset
from mcl_ray.distributed import gather
from mcl_ray.losses.distill import Learners, logit_distillation
from mcl_ray.losses.terms import contrastive_terms
from mcl_ray.methods.method import (
    FLOAT_BYTES,
    Batch,
    OnePassMethod,
    Peers,
    StepLosses,
    cross_entropy,
    seeded_generator,
    uses_contrastive_terms,
    weighted_sum,
)

DRAW_STREAM = 2
"""Random stream of the sampled slots, independent of the streams of batches and augmentation of a (seed, epoch)."""


class SupervisedBank(OnePassMethod):
    """Cross-entropy and contrast with memory banks, which hold an embedding of every training image.

    Yang et al., AAAI 2022 (arXiv 2104.12565), with the memory banks of Wu et al., CVPR 2018 (arXiv 1805.01978).

    Args:
        peers: the cohort, or the module that wraps it for data parallelism.
        weights: weights of the losses.
        bf16: whether the networks run under autocast.
        bank: memory banks of all peers.
        sampler: samples the slots of each image's contrast set.
    """

    def __init__(self, peers: Peers, weights: LossSpec, *, bf16: bool, bank: MemoryBank, sampler: SlotSampler) -> None:
        super().__init__(peers, weights, bf16=bf16)
        self.bank, self._sampler = bank, sampler
        self._generator: torch.Generator | None = None
        self._pending_update: tuple[Tensor, Tensor] | None = None

    @classmethod
    def build(cls, spec: RunSpec, *, peers: Peers, cohort: Cohort, dataset: Dataset) -> Self:
        """Build the method of a run in its state before the first step: the banks are random."""
        generator = seeded_generator(spec, cohort)
        labels = torch.from_numpy(dataset.train.labels).to(generator.device)
        size, width, momentum = spec.cohort.size, spec.cohort.embedding_dim, spec.bank.memory_momentum
        return cls(
            peers,
            spec.losses,
            bf16=spec.compute.precision == "bf16",
            bank=MemoryBank(size, num_slots(spec, len(labels)), width, momentum=momentum, generator=generator),
            sampler=SlotSampler(labels, positives=spec.bank.positives, negatives=spec.bank.negatives),
        )

    @classmethod
    def state_bytes(cls, spec: RunSpec, *, parameters: int, train_images: int) -> int:
        """Return the bytes of the memory banks."""
        return FLOAT_BYTES * spec.cohort.size * spec.cohort.embedding_dim * num_slots(spec, train_images)

    def on_epoch_start(self, seed: int, epoch: int) -> None:
        """Seed the sampling of slots with (seed, epoch)."""
        self._generator = epoch_generator(seed, epoch, self.bank.slots.device, DRAW_STREAM)

    def losses_of(self, batch: Batch, output: CohortOutput) -> StepLosses:
        """Compute Σ_i cross-entropy_i + logit distillation + alpha·VCL + beta·ICL + gamma·Soft-VCL + lam·Soft-ICL.

        With `logit_distillation="reference"`, only the last peer learns and the teacher, the mean of all peers' logits,
        is not detached, as in the published ImageNet code.
        """
        assert self._generator is not None, "on_epoch_start() precedes losses()"
        weights, weight = self.weights, batch.shares.weight
        terms = {"cross_entropy": cross_entropy(output.logits, batch)}
        if weights.logit_distillation != "off":
            learners: Learners = "last" if weights.logit_distillation == "reference" else "all"
            terms["logit_distillation"] = weight * logit_distillation(output.logits, weights.temperature, learners)
        if uses_contrastive_terms(weights, len(output.logits)):
            slots = self._sampler(batch.image_ids, self._generator, batch.shares)
            contrast = contrastive_terms(self.bank.grid(output.embeddings, slots, weights.tau), weights)
            terms |= {name: weight * term for name, term in contrast.items()}
            embeddings = gather(output.embeddings.detach(), batch.shares, dim=1)
            self._pending_update = embeddings, gather(batch.image_ids, batch.shares)
        return StepLosses(weighted_sum(terms, weights), terms)

    def after_optimizer_step(self) -> None:
        """Update the slots of the last batch's images."""
        if self._pending_update is not None:
            self.bank.update(*self._pending_update)
            self._pending_update = None

    def state_dict(self) -> dict[str, Any]:
        """Return the memory banks."""
        return {"slots": self.bank.slots}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the memory banks."""
        self.bank.slots.copy_(state["slots"])


def num_slots(spec: RunSpec, train_images: int) -> int:
    """Return the number of slots of each memory bank: one per training image, or none if no term uses the bank."""
    return train_images if uses_contrastive_terms(spec.losses, spec.cohort.size) else 0
