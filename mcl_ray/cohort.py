"""A cohort: N peers, alike or not, sharing a stem or not, with the heads that embed their features.

Networks live in `mcl_ray.models`; what the peers teach each other is in `mcl_ray.losses`.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from mcl_ray.models.heads import EmbeddingHead
from mcl_ray.models.network import Network
from mcl_ray.models.registry import build_network
from mcl_ray.spec import CohortSpec

# N peers, B images, K input channels, H × W pixels, C classes, F features, D embedding


class CohortOutput(NamedTuple):
    """What training needs of every peer."""

    logits: Tensor
    """[N, B, C]"""
    embeddings: Tensor
    """[N, B, D], of unit length, float32."""


class Cohort(nn.Module):
    """N peers that see the same images (Yang et al., AAAI 2022, arXiv 2104.12565).

    Every tensor has one name, below `stems.{i}`, `branches.{i}`, `classifiers.{i}` or `heads.{i}` for peer i; peers
    that share a stem share `stems.0`.

    Args:
        names: the network of each peer, [N].
        networks: the peers, [N]; of those after the first only branch and classifier are used if the stem is shared.
        share_stem: compute the first peer's stem once, for all peers.
        embedding_dim: width D of the embeddings.

    Raises:
        ValueError: no peers, or not one name for each.
    """

    def __init__(
        self, names: tuple[str, ...], networks: list[Network], *, share_stem: bool, embedding_dim: int
    ) -> None:
        super().__init__()
        if not networks or len(names) != len(networks):
            raise ValueError(f"a cohort needs a name for each peer, but got {len(names)} for {len(networks)} peers")
        self.names = names
        self.shares_stem = share_stem
        self.stems = nn.ModuleList(network.stem for network in (networks[:1] if share_stem else networks))
        self.branches = nn.ModuleList(network.branch for network in networks)
        self.classifiers = nn.ModuleList(network.classifier for network in networks)
        self.heads = nn.ModuleList(EmbeddingHead(network.feature_dim, embedding_dim) for network in networks)

    @property
    def num_peers(self) -> int:
        """Number of peers, N."""
        return len(self.names)

    def peer(self, index: int) -> Network:
        """Peer `index` as a network of its own, without its head; it holds this cohort's tensors, not copies."""
        stem = self.stems[0 if self.shares_stem else index]
        return Network(stem, self.branches[index], cast("nn.Linear", self.classifiers[index]))

    def forward(self, images: Tensor) -> CohortOutput:
        """Every peer's logits and embeddings of images [B, K, H, W]."""
        logits_NBC, features_NBF = self.logits_and_features(images)
        pairs = zip(self.heads, features_NBF, strict=True)
        return CohortOutput(logits_NBC, torch.stack([head(features_BF) for head, features_BF in pairs]))

    def logits(self, images: Tensor) -> Tensor:
        """Every peer's logits [N, B, C] of images [B, K, H, W]; heads are not computed."""
        return self.logits_and_features(images)[0]

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits [N, B, C], and each peer's features [B, F]: a list, for unlike peers differ in F."""
        maps_N = [stem(images) for stem in self.stems]
        if self.shares_stem:
            maps_N = maps_N * self.num_peers
        features_NBF = [branch(maps) for branch, maps in zip(self.branches, maps_N, strict=True)]
        pairs = zip(self.classifiers, features_NBF, strict=True)
        return torch.stack([classifier(features_BF) for classifier, features_BF in pairs]), features_NBF


def build_cohort(spec: CohortSpec, num_classes: int, in_channels: int = 3) -> Cohort:
    """Build the peers of a spec with fresh weights, drawn from torch's global generator.

    Peers that share no stem are drawn one after another, so each starts from weights of its own.
    """
    networks = [build_network(name, num_classes, in_channels) for name in spec.peers]
    return Cohort(spec.peers, networks, share_stem=spec.shares_stem, embedding_dim=spec.embedding_dim)
