"""Self-supervised Mutual Contrastive Learning with contrast from queues of keys (MoCo).

N peers, B images of this worker, G images of all workers, D embedding.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from mcl_ray.cohort import Cohort, CohortOutput
from mcl_ray.config.spec import LossSpec, RunSpec
from mcl_ray.contrast.queue import KeyQueue
from mcl_ray.data.augment import epoch_generator
from mcl_ray.data.dataset import Dataset
from mcl_ray.distributed import BatchShards, gather
from mcl_ray.losses.streamed import streamed_losses
from mcl_ray.methods.method import FLOAT_BYTES, Batch, OnePassMethod, Peers, StepLosses, outputs, seeded_generator

SHUFFLE_STREAM = 3
"""Random stream of the order of key images, independent of other streams of the same (seed, epoch)."""


class Moco(OnePassMethod):
    """Momentum contrast between all pairs of peers, without labels.

    MoCo (He et al., CVPR 2020, arXiv 1911.05722) with the four terms of Yang et al., AAAI 2022 (arXiv 2104.12565). The
    queries are embeddings of one view of each image; their positives are the keys of the other view. Each peer
    has a key encoder, an exponential moving average of its query encoder (MoCo, eq. 2):
    θ_k ← m·θ_k + (1 − m)·θ_q.

    Args:
        peers: the query encoders, or the module that wraps them for data parallelism.
        weights: weights of the losses.
        bf16: whether the networks run under autocast.
        cohort: the query encoders themselves.
        keys: the key encoders, initially equal to the query encoders.
        queue: keys of earlier batches.
        key_momentum: momentum m of the key encoders.
        shuffles: whether key images are shuffled across workers that share a batch (shuffling BN, MoCo, section 3.3),
            so that batch statistics do not reveal which query and key belong together.
    """

    def __init__(
        self,
        peers: Peers,
        weights: LossSpec,
        *,
        bf16: bool,
        cohort: Cohort,
        keys: Cohort,
        queue: KeyQueue,
        key_momentum: float,
        shuffles: bool,
    ) -> None:
        super().__init__(peers, weights, bf16=bf16)
        self.keys, self.queue = keys, queue
        self._cohort, self._key_momentum, self._shuffles = cohort, key_momentum, shuffles
        self._generator: torch.Generator | None = None
        self._new_keys: Tensor | None = None

    @classmethod
    def build(cls, spec: RunSpec, *, peers: Peers, cohort: Cohort, dataset: Dataset) -> Self:
        """Build the method of a run in its state before the first step: the keys are random."""
        generator = seeded_generator(spec, cohort)
        return cls(
            peers,
            spec.losses,
            bf16=spec.compute.precision == "bf16",
            cohort=cohort,
            keys=cohort.copied().requires_grad_(False),
            queue=KeyQueue(spec.cohort.size, spec.queue.keys, spec.cohort.embedding_dim, generator=generator),
            key_momentum=spec.queue.key_momentum,
            shuffles=spec.compute.batch_statistics == "local",
        )

    @classmethod
    def state_bytes(cls, spec: RunSpec, *, parameters: int, train_images: int) -> int:
        """Return the bytes of the key encoders and the queue."""
        return FLOAT_BYTES * (spec.cohort.size * spec.cohort.embedding_dim * spec.queue.keys + parameters)

    def on_epoch_start(self, seed: int, epoch: int) -> None:
        """Seed the shuffling of key images with (seed, epoch)."""
        self._generator = epoch_generator(seed, epoch, self.queue.keys.device, SHUFFLE_STREAM)

    def peer_images(self, batch: Batch) -> Tensor:
        """Return the first view of each image, of which the peers compute the queries."""
        return batch.images.chunk(2)[0]

    def losses_of(self, batch: Batch, output: CohortOutput) -> StepLosses:
        """Compute the four terms of queries of the first views and keys of the second views."""
        queries_NBD = output.embeddings
        keys_NGD = self._keys_of(batch.images.chunk(2)[1], batch.shares)
        start = batch.shares.start
        own_NBD = keys_NGD[:, start : start + queries_NBD.shape[1]]
        streamed = streamed_losses(queries_NBD, own_NBD, self.queue.keys, self.weights)
        self._new_keys, weight = keys_NGD, batch.shares.weight
        return StepLosses(weight * streamed.total, {name: weight * term for name, term in streamed.terms.items()})

    def after_optimizer_step(self) -> None:
        """Enqueue the keys of the last batch."""
        assert self._new_keys is not None, "losses() precedes after_optimizer_step()"
        self.queue.enqueue(self._new_keys)
        self._new_keys = None

    def state_dict(self) -> dict[str, Any]:
        """Return the key encoders and the queue."""
        return {"encoders": self.keys.state_of_all_peers(), "keys": self.queue.keys, "pointer": self.queue.pointer}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the key encoders and the queue."""
        self.keys.load_state_of_all_peers(state["encoders"])
        self.queue.keys.copy_(state["keys"])
        self.queue.pointer = state["pointer"]

    @torch.no_grad()
    def _keys_of(self, images: Tensor, shares: BatchShards) -> Tensor:
        """Update the key encoders, then return the keys of all workers' images, in the workers' order: [N, G, D]."""
        self._update_key_encoders()
        if not self._shuffles or len(shares.sizes) == 1:
            return gather(outputs(self.keys, images, bf16=self.bf16).embeddings, shares, dim=1)
        assert self._generator is not None, "on_epoch_start() precedes losses()"
        order_G = torch.randperm(shares.whole, generator=self._generator, device=images.device)
        mine = order_G[shares.start : shares.start + shares.mine]
        shuffled_NBD = outputs(self.keys, gather(images, shares)[mine], bf16=self.bf16).embeddings
        return gather(shuffled_NBD, shares, dim=1)[:, order_G.argsort()]

    def _update_key_encoders(self) -> None:
        query_parameters = [parameter.detach() for parameter in self._cohort.parameters()]
        torch._foreach_lerp_(list(self.keys.parameters()), query_parameters, 1 - self._key_momentum)
