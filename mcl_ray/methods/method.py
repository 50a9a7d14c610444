"""The interface of a training method: its batches, its losses, and the hooks that the training loop calls.

N peers, B images, C classes, D embedding.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from mcl_ray.cohort import Cohort, CohortOutput
from mcl_ray.config.spec import LossSpec, RunSpec
from mcl_ray.data.dataset import Dataset
from mcl_ray.distributed import SINGLE_SHARD, BatchShards

WEIGHT_OF_TERM = {"vcl": "alpha", "icl": "beta", "soft_vcl": "gamma", "soft_icl": "lam"}


class Batch(NamedTuple):
    """This worker's images of a batch, with their labels."""

    images: Tensor
    """[B, channels, height, width] float32, normalised; with two views of each image [2B, …], all first views, then
    all second views."""
    labels: Tensor
    """[B] int64 class indices."""
    image_ids: Tensor
    """[B] int64, indices of the images in the training set."""
    shares: BatchShards = SINGLE_SHARD
    """Split of the whole batch over the workers."""


class StepLosses(NamedTuple):
    """Losses of one training step."""

    total: Tensor
    """Weighted sum, the scalar that is differentiated."""
    terms: dict[str, Tensor]
    """Unweighted terms by name: `cross_entropy` and all terms that are computed, scalars."""


Peers = Callable[[Tensor], CohortOutput]
"""A cohort, or the module that wraps it for data parallelism: images [B, channels, H, W] → outputs of all peers."""


class Method(ABC):
    """A training method: computes the losses of a batch, and keeps state from step to step.

    The training loop calls `on_epoch_start`, then `losses` and `after_optimizer_step` for every batch, then
    `on_epoch_end`. This base class keeps no state. What a method is without torch, such as whether it needs labels, is
    its entry in `mcl_ray.config.methods`.

    Args:
        peers: the cohort, or the module that wraps it for data parallelism.
        weights: weights of the losses.
        bf16: whether the networks run under autocast.
    """

    def __init__(self, peers: Peers, weights: LossSpec, *, bf16: bool) -> None:
        self.peers, self.weights, self.bf16 = peers, weights, bf16

    @classmethod
    def build(cls, spec: RunSpec, *, peers: Peers, cohort: Cohort, dataset: Dataset) -> Self:
        """Build the method of a run in its state before the first step.

        Args:
            spec: the run.
            peers: the cohort, or the module that wraps it for data parallelism.
            cohort: the cohort itself, on its device.
            dataset: the run's data set.
        """
        return cls(peers, spec.losses, bf16=spec.compute.precision == "bf16")

    @classmethod
    def state_bytes(cls, spec: RunSpec, *, parameters: int, train_images: int) -> int:
        """Return the bytes that the method keeps beside the cohort, in float32, for estimates.

        Args:
            spec: the run.
            parameters: number of parameters of its cohort.
            train_images: number of training images.
        """
        return 0

    def on_epoch_start(self, seed: int, epoch: int) -> None:  # noqa: B027 -- most methods need no action
        """Prepare for an epoch: called before its first batch.

        Args:
            seed: the run's seed.
            epoch: the epoch, from 0.
        """

    @abstractmethod
    def losses(self, batch: Batch) -> StepLosses:
        """Compute the losses of a batch: this worker's part, whose mean over the workers is the loss of the batch."""

    def after_optimizer_step(self) -> None:  # noqa: B027
        """Update the method's state: called after the optimiser has used the last losses."""

    def on_epoch_end(self) -> None:  # noqa: B027
        """Check the method's state: called after the last batch of an epoch.

        Raises:
            TrainingError: an invariant of the method does not hold.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return the state that resuming needs beside the cohort; of workers with other peers, each calls this."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Restore the state that `state_dict` returned."""


class OnePassMethod(Method):
    """A method that computes its losses from one forward pass of the peers.

    Several runs of such methods can share the forward and the backward pass, see `mcl_ray.training.pack`.
    """

    def losses(self, batch: Batch) -> StepLosses:
        """Compute the losses of a batch from the outputs of the peers, see `losses_of`."""
        return self.losses_of(batch, outputs(self.peers, self.peer_images(batch), bf16=self.bf16))

    def peer_images(self, batch: Batch) -> Tensor:
        """Return the images that the peers see: [B, channels, height, width]."""
        return batch.images

    @abstractmethod
    def losses_of(self, batch: Batch, output: CohortOutput) -> StepLosses:
        """Compute the losses of a batch, as `Method.losses` does, from the peers' outputs for `peer_images`."""

    @classmethod
    def losses_of_runs(
        cls, methods: Sequence[Self], batches: Sequence[Batch], outputs: Sequence[CohortOutput]
    ) -> list[StepLosses]:
        """Compute what `losses_of` does for each of K runs; here, for one after another.

        Args:
            methods: the runs' methods, of this class, [K].
            batches: their batches, [K].
            outputs: their peers' outputs, [K].
        """
        each = zip(methods, batches, outputs, strict=True)
        return [method.losses_of(batch, output) for method, batch, output in each]


FLOAT_BYTES = 4


def seeded_generator(spec: RunSpec, cohort: Cohort) -> torch.Generator:
    """Return a generator on the cohort's device, seeded with the run's seed, for the initial state of a method."""
    return torch.Generator(next(cohort.parameters()).device).manual_seed(spec.seed)


def outputs(peers: Peers, images: Tensor, *, bf16: bool) -> CohortOutput:
    """Return the peers' outputs for images [B, channels, H, W], in float32 even if the networks run in bf16."""
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bf16):
        output = peers(images)
    return CohortOutput(output.logits.float(), output.embeddings)


def uses_contrastive_terms(weights: LossSpec, num_peers: int) -> bool:
    """Return whether any contrastive term is computed, so that embeddings are needed; one peer has only VCL."""
    between = num_peers > 1 and any((weights.beta, weights.gamma, weights.lam))
    return any((weights.alpha, between, *weights.extra.values()))


def weighted_sum(terms: Mapping[str, Tensor], weights: LossSpec) -> Tensor:
    """Return the total loss; terms without a weight of their own have weight 1."""
    return torch.stack([weight_of(name, weights) * value for name, value in terms.items()]).sum()


def weight_of(term: str, weights: LossSpec) -> float:
    """Return the weight of a term in the total loss."""
    if term in WEIGHT_OF_TERM:
        return float(getattr(weights, WEIGHT_OF_TERM[term]))
    return weights.extra.get(term, 1.0)


def cross_entropy(logits_NBC: Tensor, batch: Batch) -> Tensor:
    """Compute Σ over peers of the mean cross-entropy, weighted as this worker's part of the whole batch.

    Yang et al., AAAI 2022 (arXiv 2104.12565), with z_i[b] the logits of image b by peer i, and y[b] its class:

        −1/B · Σ_i Σ_b log softmax(z_i[b])[y[b]]

    Args:
        logits_NBC: the peers' logits.
        batch: this worker's images, with their labels.

    Shape:
        logits_NBC: [N, B, C]; returns a scalar.

    Example:
        >>> batch = Batch(torch.zeros(1, 3, 8, 8), labels=torch.tensor([1]), image_ids=torch.tensor([0]))
        >>> round(cross_entropy(torch.zeros(2, 1, 2), batch).item(), 4)  # 2 peers, log(2) each
        1.3863
    """
    num_peers, batch_size, _ = logits_NBC.shape
    summed: Tensor = F.cross_entropy(logits_NBC.flatten(0, 1), batch.labels.repeat(num_peers), reduction="sum")
    return batch.shares.weight * (summed / batch_size)
