"""Linear classification of frozen features."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mcl_ray.config.spec import LossSpec
from mcl_ray.errors import BackboneChangedError
from mcl_ray.linear_probe import FrozenCohort
from mcl_ray.methods.method import Batch, Method, Peers, StepLosses, cross_entropy, outputs, weighted_sum


class Linear(Method):
    """The labels, and nothing else: Σ over classifiers of the cross-entropy (He et al., CVPR 2020, section 4.1).

    Args:
        peers: the cohort, or what trains it together with other workers.
        weights: of the losses, all zero.
        bf16: whether the networks run under autocast.
        cohort: the cohort itself, as it is to stay but for its classifiers.
    """

    def __init__(self, peers: Peers, weights: LossSpec, *, bf16: bool, cohort: FrozenCohort) -> None:
        super().__init__(peers, weights, bf16=bf16)
        self._cohort, self._digest = cohort, digest_of(cohort.backbone())

    def losses(self, batch: Batch) -> StepLosses:
        """Cross-entropy of every classifier."""
        terms = {"cross_entropy": cross_entropy(outputs(self.peers, batch.images, bf16=self.bf16).logits, batch)}
        return StepLosses(weighted_sum(terms, self.weights), terms)

    def on_epoch_end(self) -> None:
        """Check that the networks are what they were.

        Raises:
            BackboneChangedError: they are not, so that what was trained is not linear.
        """
        found = digest_of(self._cohort.backbone())
        if found != self._digest:
            raise BackboneChangedError(
                f"linear classification leaves the networks as they are, but their tensors had the sha256 "
                f"{self._digest} before, and have {found} now"
            )

    def state_dict(self) -> dict[str, Any]:
        """What the networks are to stay."""
        return {"backbone": self._digest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the same networks."""
        self._digest = state["backbone"]


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 of tensors with their names, to the bit."""
    found = hashlib.sha256()
    for name, tensor in tensors.items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
