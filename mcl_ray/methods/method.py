"""What every method has in common: what it is given, what it yields, and how the loop drives it.

N peers, B images, C classes, D embedding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mcl_ray.cohort import CohortOutput
from mcl_ray.config.spec import LossSpec
from mcl_ray.distributed import SINGLE_SHARD, BatchShards

WEIGHT_OF_TERM = {"vcl": "alpha", "icl": "beta", "soft_vcl": "gamma", "soft_icl": "lam"}


class Batch(NamedTuple):
    """Images with what is known of them."""

    images: Tensor
    """[B, channels, height, width] float32, normalised; of two views of each image, [2B, …], the second after the
    first."""
    labels: Tensor
    """[B] int64 class indices."""
    image_ids: Tensor
    """[B] int64, equal for the same image."""
    shares: BatchShards = SINGLE_SHARD
    """Who has how much of the whole batch."""


class StepLosses(NamedTuple):
    """What one step yields."""

    total: Tensor
    """The weighted sum that is differentiated, a scalar."""
    terms: dict[str, Tensor]
    """Every unweighted summand by name: `cross_entropy` and whichever terms are on."""


Peers = Callable[[Tensor], CohortOutput]
"""A cohort, or what trains it together with other workers: images [B, C, H, W] → what training needs of every peer."""


class Method(ABC):
    """From a batch to its losses, and what is remembered from step to step, which here is nothing.

    Args:
        peers: the cohort, or what trains it together with other workers.
        weights: of the losses.
        bf16: whether the networks run under autocast.
    """

    def __init__(self, peers: Peers, weights: LossSpec, *, bf16: bool) -> None:
        self.peers, self.weights, self.bf16 = peers, weights, bf16

    def on_epoch_start(self, seed: int, epoch: int) -> None:  # noqa: B027 -- most have nothing to do
        """Be told which epoch the next batches are of."""

    @abstractmethod
    def losses(self, batch: Batch) -> StepLosses:
        """What a step is to make smaller."""

    def after_optimizer_step(self) -> None:  # noqa: B027
        """Be told that the optimiser has made the step."""

    def on_epoch_end(self) -> None:  # noqa: B027
        """Be told that the epoch is over.

        Raises:
            TrainingError: something is not as it must be.
        """

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs, beside the cohort."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Take up what `state_dict` gave."""


def outputs(peers: Peers, images: Tensor, *, bf16: bool) -> CohortOutput:
    """What the peers make of images, in float32, whatever the networks computed in."""
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bf16):
        output = peers(images)
    return CohortOutput(output.logits.float(), output.embeddings)


def uses_contrastive_terms(weights: LossSpec, num_peers: int) -> bool:
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
