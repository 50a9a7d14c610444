"""Supervised Mutual Contrastive Learning with contrast from memory banks (the ImageNet regime).

N peers, B images of this worker, D embedding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mcl_ray.config.spec import LossSpec
from mcl_ray.contrast.bank import ContrastDraw, MemoryBank
from mcl_ray.data.augment import epoch_generator
from mcl_ray.distributed import gather
from mcl_ray.losses.distill import Learners, logit_distillation
from mcl_ray.losses.terms import contrastive_terms
from mcl_ray.methods.method import (
    Batch,
    Method,
    Peers,
    StepLosses,
    cross_entropy,
    outputs,
    uses_contrastive_terms,
    weighted_sum,
)

DRAW_STREAM = 2
"""Keeps the draws of slots apart from those of batches and of augmentation, which come from the same (seed, epoch)."""


class SupervisedBank(Method):
    """Peers contrast each image with what they remember of the others, then remember it anew.

    Args:
        peers: the cohort, or what trains it together with other workers.
        weights: of the losses.
        bf16: whether the networks run under autocast.
        bank: what the peers remember.
        draw: chooses what to contrast with.
    """

    def __init__(self, peers: Peers, weights: LossSpec, *, bf16: bool, bank: MemoryBank, draw: ContrastDraw) -> None:
        super().__init__(peers, weights, bf16=bf16)
        self.bank, self._draw = bank, draw
        self._generator: torch.Generator | None = None
        self._seen: tuple[Tensor, Tensor] | None = None

    def on_epoch_start(self, seed: int, epoch: int) -> None:
        """Draw as this epoch does, whatever was drawn before."""
        self._generator = epoch_generator(seed, epoch, self.bank.slots.device, DRAW_STREAM)

    def losses(self, batch: Batch) -> StepLosses:
        """Σ cross-entropy + logit distillation + the four weighted terms, the same as without a bank.

        The published code's distillation lets the last peer learn, and the mean of the peers with it.
        """
        assert self._generator is not None, "an epoch has begun"
        weights, weight = self.weights, batch.shares.weight
        output = outputs(self.peers, batch.images, bf16=self.bf16)
        terms = {"cross_entropy": cross_entropy(output.logits, batch)}
        if weights.logit_distillation != "off":
            learners: Learners = "last" if weights.logit_distillation == "reference" else "all"
            terms["logit_distillation"] = weight * logit_distillation(output.logits, weights.temperature, learners)
        if uses_contrastive_terms(weights, len(output.logits)):
            drawn = self._draw(batch.image_ids, self._generator, batch.shares)
            contrast = contrastive_terms(self.bank.grid(output.embeddings, drawn, weights.tau), weights)
            terms |= {name: weight * term for name, term in contrast.items()}
            embeddings = gather(output.embeddings.detach(), batch.shares, dim=1)
            self._seen = embeddings, gather(batch.image_ids, batch.shares)
        return StepLosses(weighted_sum(terms, weights), terms)

    def after_optimizer_step(self) -> None:
        """Renew the slots of the batch that the optimiser has just learned from."""
        if self._seen is not None:
            self.bank.renew(*self._seen)
            self._seen = None

    def state_dict(self) -> dict[str, Any]:
        """The banks."""
        return {"slots": self.bank.slots}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what was remembered."""
        self.bank.slots.copy_(state["slots"])
