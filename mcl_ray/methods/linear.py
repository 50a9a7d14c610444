"""Linear classification of frozen features."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from mcl_ray.cohort import Cohort, CohortOutput
from mcl_ray.config.spec import LossSpec, RunSpec
from mcl_ray.data.dataset import Dataset
from mcl_ray.errors import BackboneChangedError
from mcl_ray.linear_probe import FrozenCohort
from mcl_ray.methods.method import Batch, OnePassMethod, Peers, StepLosses, cross_entropy, weighted_sum


class Linear(OnePassMethod):
    """Linear classification: Σ over classifiers of the cross-entropy.

    The linear classification protocol of He et al., CVPR 2020 (arXiv 1911.05722), section 4.1.

    Args:
        peers: the cohort, or the module that wraps it for data parallelism.
        weights: weights of the losses, all zero.
        bf16: whether the networks run under autocast.
        cohort: the cohort itself, of which only the classifiers may change.
    """

    def __init__(self, peers: Peers, weights: LossSpec, *, bf16: bool, cohort: FrozenCohort) -> None:
        super().__init__(peers, weights, bf16=bf16)
        self._cohort, self._digest = cohort, digest_of(cohort.backbone())

    @classmethod
    def build(cls, spec: RunSpec, *, peers: Peers, cohort: Cohort, dataset: Dataset) -> Self:
        """Build the method of a run in its state before the first step."""
        assert isinstance(cohort, FrozenCohort), "the cohort of linear classification is frozen"
        return cls(peers, spec.losses, bf16=spec.compute.precision == "bf16", cohort=cohort)

    def losses_of(self, batch: Batch, output: CohortOutput) -> StepLosses:
        """Compute the sum of all classifiers' cross-entropy."""
        terms = {"cross_entropy": cross_entropy(output.logits, batch)}
        return StepLosses(weighted_sum(terms, self.weights), terms)

    def on_epoch_end(self) -> None:
        """Check that the frozen networks have not changed.

        Raises:
            BackboneChangedError: their tensors differ from those at the start of the run.
        """
        found = digest_of(self._cohort.backbone())
        if found != self._digest:
            raise BackboneChangedError(
                f"linear classification must not change the networks, but their tensors had the sha256 "
                f"{self._digest} before, and have {found} now"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the digest of the frozen networks."""
        return {"backbone": self._digest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the digest of the frozen networks."""
        self._digest = state["backbone"]


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Return the hex SHA-256 of tensors and their names, over all bits."""
    found = hashlib.sha256()
    for name, tensor in tensors.items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
