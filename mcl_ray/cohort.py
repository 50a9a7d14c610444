"""A cohort: N peer networks, of one architecture or several, with or without a shared stem, and their heads.

Networks are in `mcl_ray.models`, losses in `mcl_ray.losses`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from mcl_ray.config.spec import CohortSpec, Head
from mcl_ray.models.heads import EmbeddingHead
from mcl_ray.models.network import Network
from mcl_ray.models.registry import build_network

# N peers, B images, K input channels, H × W pixels, C classes, F features, D embedding


class CohortOutput(NamedTuple):
    """Outputs of all peers for one batch."""

    logits: Tensor
    """[N, B, C]; C is 0 for peers without classifiers."""
    embeddings: Tensor
    """[N, B, D], of unit length, float32; D is 0 for peers without heads."""


class Cohort(nn.Module):
    """N peers that are trained on the same images (Yang et al., AAAI 2022, arXiv 2104.12565).

    The tensors of peer i are named `stems.{i}.…`, `branches.{i}.…`, `classifiers.{i}.…` and `heads.{i}.…`; peers that
    share a stem all use `stems.0`.

    Args:
        names: the network name of each peer, [N].
        networks: the peers, [N]; with a shared stem, only the first one's stem is used.
        share_stem: compute the first peer's stem once, for all peers.
        embedding_dim: dimension D of the embeddings.
        head: kind of the embedding heads; None for peers without heads.
        classifies: whether the peers have classifiers; peers that learn without labels have none.

    Raises:
        ValueError: there are no peers, or the numbers of names and networks differ.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        networks: list[Network],
        *,
        share_stem: bool,
        embedding_dim: int = 0,
        head: Head | None = "mcl",
        classifies: bool = True,
    ) -> None:
        super().__init__()
        if not networks or len(names) != len(networks):
            raise ValueError(f"`len(names) == peers >= 1` must hold, but got {len(names)} for {len(networks)} peers")
        self.names = names
        self.shares_stem = share_stem
        self.stems = nn.ModuleList(network.stem for network in (networks[:1] if share_stem else networks))
        self.branches = nn.ModuleList(network.branch for network in networks)
        self.classifiers = nn.ModuleList(network.classifier for network in networks if classifies)
        self.heads = nn.ModuleList(
            EmbeddingHead(network.feature_dim, embedding_dim, head) for network in networks if head is not None
        )
        self.feature_dims = tuple(network.feature_dim for network in networks)
        """Feature dimension F of each peer, [N]."""

    @property
    def num_peers(self) -> int:
        """Number of peers, N."""
        return len(self.names)

    def peer(self, index: int) -> Network:
        """Return peer `index` as a separate network, without its head; it uses this cohort's tensors, not copies."""
        stem = self.stems[0 if self.shares_stem else index]
        classifier = cast("nn.Linear", self.classifiers[index]) if self.classifiers else nn.Identity()
        return Network(stem, self.branches[index], classifier)

    def forward(self, images: Tensor) -> CohortOutput:
        """Return all peers' logits [N, B, C] and embeddings [N, B, D] of images [B, K, H, W]."""
        logits_NBC, features_NBF = self.logits_and_features(images)
        return CohortOutput(logits_NBC, self.of_all_peers(_apply_each(self.heads, features_NBF)))

    def logits(self, images: Tensor) -> Tensor:
        """Return all peers' logits [N, B, C] of images [B, K, H, W]; heads are not computed."""
        return self.logits_and_features(images)[0]

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return all peers' logits [N, B, C] and features, [N] of [B, F], of images [B, K, H, W]."""
        features_NBF = self.features(images)
        return self.classify(features_NBF), features_NBF

    def classify(self, features_NBF: list[Tensor]) -> Tensor:
        """Return all peers' logits [N, B, C] of their features, [N] of [B, F]."""
        return self.of_all_peers(_apply_each(self.classifiers, features_NBF))

    def features(self, images: Tensor) -> list[Tensor]:
        """Return each peer's features, [N] of [B, F], of images [B, K, H, W]; F may differ between peers."""
        maps_N = [stem(images) for stem in self.stems]
        if self.shares_stem:
            maps_N = maps_N * len(self.branches)
        return [branch(maps) for branch, maps in zip(self.branches, maps_N, strict=True)]

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the parameters of all peers, in the order of an optimiser's state."""
        return tuple(name for name, _ in self.named_parameters())

    # A part of a cohort, whose other peers are on other workers, exchanges with them here: see `CohortPart`.

    def of_all_peers(self, part_n: Tensor) -> Tensor:
        """Return the values of all peers, [N, …], of those of this worker's, which are all; differentiable."""
        return part_n

    def entries_of_all_peers(self, entries: Mapping[str, Any]) -> dict[str, Any]:
        """Return the entries of all peers by name."""
        return dict(entries)

    def state_of_all_peers(self) -> dict[str, Any]:
        """Return the tensors of all peers by name."""
        return self.state_dict()

    def load_state_of_all_peers(self, state: Mapping[str, Any]) -> None:
        """Load the tensors that `state_of_all_peers` returned."""
        self.load_state_dict(state)

    def sum_shared_gradients(self) -> None:
        """Sum the gradients of what several workers compute for their own peers; called after each backward pass."""

    def copied(self) -> Self:
        """Return a copy with its own tensors."""
        return copy.deepcopy(self)


def _apply_each(modules: nn.ModuleList, features_NBF: list[Tensor]) -> Tensor:
    """Apply each peer's module to its features and stack the results, [N, B, …]; [N, B, 0] without modules."""
    if not modules:
        return features_NBF[0].new_empty(len(features_NBF), len(features_NBF[0]), 0)
    return torch.stack([module(features_BF) for module, features_BF in zip(modules, features_NBF, strict=True)])


def build_cohort(spec: CohortSpec, num_classes: int, in_channels: int = 3, *, has_heads: bool = True) -> Cohort:
    """Build the cohort of a spec with random weights from torch's global generator.

    Networks are initialised one after another, so that each peer has different weights.

    Args:
        spec: networks, sharing and heads.
        num_classes: C; with 0, the peers have no classifiers.
        in_channels: K.
        has_heads: whether the peers have embedding heads.
    """
    networks = [build_network(name, num_classes or 1, in_channels) for name in spec.peers]
    return Cohort(
        spec.peers,
        networks,
        share_stem=spec.shares_stem,
        embedding_dim=spec.embedding_dim,
        head=spec.head if has_heads else None,
        classifies=num_classes > 0,
    )
