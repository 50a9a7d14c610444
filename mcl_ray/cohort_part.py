"""The peers of a cohort that this worker trains, while other workers train the others.

N peers, n of them on this worker, B images, C classes, D embedding.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from mcl_ray.cohort import Cohort
from mcl_ray.distributed import all_reduce_sum_, concatenate, send_to_first
from mcl_ray.worker_layout import WorkerLayout


class CohortPart(Cohort):
    """The peers of one worker; its outputs are those of all peers, which the workers of a cohort exchange.

    Each worker computes the losses from the outputs of all peers, and only the gradient of its own peers: nothing else
    has to be exchanged for the exact gradient (Yang et al., AAAI 2022, arXiv 2104.12565: the losses are functions of
    the peers' logits and embeddings alone). A shared stem is an exception: each worker computes it, and the parts of
    its gradient are summed, see `sum_shared_gradients`.

    Tensors have the names that they have in the whole cohort.

    Args:
        whole: the cohort; its modules are used, not copied.
        layout: the peers of this worker, and the workers that have the others.
    """

    def __init__(self, whole: Cohort, layout: WorkerLayout) -> None:
        nn.Module.__init__(self)
        self.names, self.shares_stem, self.feature_dims = whole.names, whole.shares_stem, whole.feature_dims
        own = layout.peers
        self.stems = _with_names(whole.stems, [0] if whole.shares_stem else own)
        self.branches = _with_names(whole.branches, own)
        self.classifiers = _with_names(whole.classifiers, own)
        self.heads = _with_names(whole.heads, own)
        self._workers, self._sizes = layout.cohort, layout.split.peers
        self._parameter_names, self._tensor_names = whole.parameter_names, tuple(whole.state_dict())

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the parameters of all peers, in the order of the whole cohort."""
        return self._parameter_names

    def of_all_peers(self, part_n: Tensor) -> Tensor:
        """Return the values of all peers, [N, …], of those of this worker's, [n, …]; differentiable."""
        if part_n.numel() == 0:  # peers without classifiers or heads, or no images: on every worker alike
            return part_n.new_empty(len(self.names), *part_n.shape[1:])
        return concatenate(part_n, self._sizes, self._workers)

    def entries_of_all_peers(self, entries: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entries of all peers by name, on the worker with the first peers; on the others nothing."""
        return send_to_first(entries, self._workers)

    def state_of_all_peers(self) -> dict[str, Any]:
        """Return the tensors of all peers by name, on the worker with the first peers; on the others nothing."""
        found = self.entries_of_all_peers(self.state_dict())
        return {name: found[name] for name in self._tensor_names if name in found}

    def load_state_of_all_peers(self, state: Mapping[str, Any]) -> None:
        """Load this worker's tensors from those of all peers."""
        self.load_state_dict({name: state[name] for name in self.state_dict()})

    def sum_shared_gradients(self) -> None:
        """Sum the gradient of a shared stem over the workers, each of which has the part of its own peers."""
        if not self.shares_stem:
            return
        gradients = [parameter.grad for parameter in self.stems.parameters() if parameter.grad is not None]
        summed = all_reduce_sum_(torch.cat([gradient.flatten() for gradient in gradients]), self._workers)
        parts = torch.split(summed, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))

    def copied(self) -> Self:
        """Return a copy with its own tensors and the same workers."""
        groups = (layer.process_group for layer in self.modules() if isinstance(layer, nn.SyncBatchNorm))
        return copy.deepcopy(self, {id(group): group for group in groups})


def _with_names(modules: nn.ModuleList, chosen: Iterable[int]) -> nn.ModuleList:
    """Return the chosen modules under the names that they have in `modules`, which may be empty."""
    part = nn.ModuleList()
    for index in chosen if modules else ():
        part.add_module(str(index), modules[index])
    return part
