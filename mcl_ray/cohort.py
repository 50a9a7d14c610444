"""A cohort: N peers, alike or not, sharing a stem or not, with the heads that embed their features.

Networks live in `mcl_ray.models`; what the peers teach each other is in `mcl_ray.losses`.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from mcl_ray.config.spec import CohortSpec, Head
from mcl_ray.models.heads import EmbeddingHead
from mcl_ray.models.network import Network
from mcl_ray.models.registry import build_network

# N peers, B images, K input channels, H × W pixels, C classes, F features, D embedding


class CohortOutput(NamedTuple):
    """What training needs of every peer."""

    logits: Tensor
    """[N, B, C]; C is 0 where nothing is classified."""
    embeddings: Tensor
    """[N, B, D], of unit length, float32; D is 0 where nothing is contrasted."""


class Cohort(nn.Module):
    """N peers that see the same images (Yang et al., AAAI 2022, arXiv 2104.12565).

    Every tensor has one name, below `stems.{i}`, `branches.{i}`, `classifiers.{i}` or `heads.{i}` for peer i; peers
    that share a stem share `stems.0`.

    Args:
        names: the network of each peer, [N].
        networks: the peers, [N]; of those after the first only branch and classifier are used if the stem is shared.
        share_stem: compute the first peer's stem once, for all peers.
        embedding_dim: width D of the embeddings.
        head: what makes embeddings of features; None for peers that contrast nothing.
        classifies: whether the peers have classifiers; those that learn without labels have none.

    Raises:
        ValueError: no peers, or not one name for each.
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
            raise ValueError(f"a cohort needs a name for each peer, but got {len(names)} for {len(networks)} peers")
        self.names = names
        self.shares_stem = share_stem
        self.stems = nn.ModuleList(network.stem for network in (networks[:1] if share_stem else networks))
        self.branches = nn.ModuleList(network.branch for network in networks)
        self.classifiers = nn.ModuleList(network.classifier for network in networks if classifies)
        self.heads = nn.ModuleList(
            EmbeddingHead(network.feature_dim, embedding_dim, head) for network in networks if head is not None
        )
        self.feature_dims = tuple(network.feature_dim for network in networks)
        """Width F of each peer's features."""

    @property
    def num_peers(self) -> int:
        """Number of peers, N."""
        return len(self.names)

    def peer(self, index: int) -> Network:
        """Peer `index` as a network of its own, without its head; it holds this cohort's tensors, not copies."""
        stem = self.stems[0 if self.shares_stem else index]
        classifier = cast("nn.Linear", self.classifiers[index]) if self.classifiers else nn.Identity()
        return Network(stem, self.branches[index], classifier)

    def forward(self, images: Tensor) -> CohortOutput:
        """Every peer's logits and embeddings of images [B, K, H, W]."""
        logits_NBC, features_NBF = self.logits_and_features(images)
        return CohortOutput(logits_NBC, _each(self.heads, features_NBF))

    def logits(self, images: Tensor) -> Tensor:
        """Every peer's logits [N, B, C] of images [B, K, H, W]; heads are not computed."""
        return self.logits_and_features(images)[0]

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits [N, B, C] and features."""
        features_NBF = self.features(images)
        return _each(self.classifiers, features_NBF), features_NBF

    def features(self, images: Tensor) -> list[Tensor]:
        """Each peer's features [B, F] of images [B, K, H, W]: a list, for unlike peers differ in F."""
        maps_N = [stem(images) for stem in self.stems]
        if self.shares_stem:
            maps_N = maps_N * self.num_peers
        return [branch(maps) for branch, maps in zip(self.branches, maps_N, strict=True)]


def _each(modules: nn.ModuleList, features_NBF: list[Tensor]) -> Tensor:
    """What each peer's module makes of its features, [N, B, …]; of no modules, nothing [N, B, 0]."""
    if not modules:
        return features_NBF[0].new_empty(len(features_NBF), len(features_NBF[0]), 0)
    return torch.stack([module(features_BF) for module, features_BF in zip(modules, features_NBF, strict=True)])


def build_cohort(spec: CohortSpec, num_classes: int, in_channels: int = 3, *, has_heads: bool = True) -> Cohort:
    """Build the peers of a spec with fresh weights, drawn from torch's global generator.

    Peers that share no stem are drawn one after another, so each starts from weights of its own. With no classes, they
    have no classifiers.
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
