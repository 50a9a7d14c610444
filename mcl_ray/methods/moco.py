"""Self-supervised Mutual Contrastive Learning: contrast with queues of keys (MoCo).

N peers, B images of this worker, G images of all workers, D embedding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mcl_ray.cohort import Cohort
from mcl_ray.config.spec import LossSpec
from mcl_ray.contrast.queue import KeyQueue
from mcl_ray.data.augment import epoch_generator
from mcl_ray.distributed import BatchShards, gather
from mcl_ray.losses.streamed import streamed_losses
from mcl_ray.methods.method import Batch, Method, Peers, StepLosses, outputs

SHUFFLE_STREAM = 3
"""Keeps the order of key images apart from what else is drawn from the same (seed, epoch)."""


class Moco(Method):
    """Peers tell one view of an image by the keys of another, among the keys of other images (He et al., CVPR 2020).

    Every peer has a key encoder beside the one that is trained; it follows slowly, arXiv 1911.05722 eq. 2.

    Args:
        peers: the query encoders, or what trains them together with other workers.
        weights: of the losses.
        bf16: whether the networks run under autocast.
        cohort: the query encoders themselves.
        keys: the key encoders, equal to them at the start.
        queue: of the keys of earlier batches.
        key_momentum: share of a key encoder's weights that stays at every step.
        shuffles: whether key images change workers, so that no batch statistics tell which belong together.
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

    def on_epoch_start(self, seed: int, epoch: int) -> None:
        """Shuffle as this epoch does, whatever was shuffled before."""
        self._generator = epoch_generator(seed, epoch, self.queue.keys.device, SHUFFLE_STREAM)

    def losses(self, batch: Batch) -> StepLosses:
        """The four weighted terms, of queries made of the first view and keys made of the second."""
        query_images, key_images = batch.images.chunk(2)
        queries_NBD = outputs(self.peers, query_images, bf16=self.bf16).embeddings
        keys_NGD = self._keys_of(key_images, batch.shares)
        start = batch.shares.start
        own_NBD = keys_NGD[:, start : start + queries_NBD.shape[1]]
        streamed = streamed_losses(queries_NBD, own_NBD, self.queue.keys, self.weights)
        self._new_keys, weight = keys_NGD, batch.shares.weight
        return StepLosses(weight * streamed.total, {name: weight * term for name, term in streamed.terms.items()})

    def after_optimizer_step(self) -> None:
        """Put the keys of the batch that the optimiser has just learned from into the queue."""
        assert self._new_keys is not None, "a step has losses first"
        self.queue.enqueue(self._new_keys)
        self._new_keys = None

    def state_dict(self) -> dict[str, Any]:
        """The key encoders and the queue."""
        return {"encoders": self.keys.state_dict(), "keys": self.queue.keys, "pointer": self.queue.pointer}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up where the encoders and the queue were."""
        self.keys.load_state_dict(state["encoders"])
        self.queue.keys.copy_(state["keys"])
        self.queue.pointer = state["pointer"]

    @torch.no_grad()
    def _keys_of(self, images: Tensor, shares: BatchShards) -> Tensor:
        """Keys of the images of all workers, in their order: [N, G, D]. The encoders first follow the queries'."""
        self._follow()
        if not self._shuffles:
            return gather(outputs(self.keys, images, bf16=self.bf16).embeddings, shares, dim=1)
        assert self._generator is not None, "an epoch has begun"
        order_G = torch.randperm(shares.whole, generator=self._generator, device=images.device)
        mine = order_G[shares.start : shares.start + shares.mine]
        shuffled_NBD = outputs(self.keys, gather(images, shares)[mine], bf16=self.bf16).embeddings
        return gather(shuffled_NBD, shares, dim=1)[:, order_G.argsort()]

    def _follow(self) -> None:
        leading = [parameter.detach() for parameter in self._cohort.parameters()]
        torch._foreach_lerp_(list(self.keys.parameters()), leading, 1 - self._key_momentum)
