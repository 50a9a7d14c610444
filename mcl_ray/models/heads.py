"""The head that maps a peer's features to its embeddings. Networks have a module each."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from mcl_ray.config.spec import Head
from mcl_ray.models.network import Joinable

# B images, F features, D embedding


class EmbeddingHead(Joinable):
    """Linear, ReLU, Linear, L2 normalisation (Yang et al., AAAI 2022, arXiv 2104.12565, section 3).

    Args:
        feature_dim: F.
        embedding_dim: D.
        kind: `mcl` has a hidden layer of width D; `mlp`, the head of MoCo v2 (Chen et al., 2020, arXiv 2003.04297), has
            one of width F; `linear`, the head of MoCo v1, has none.

    Shape:
        features [B, F]; embeddings [B, D] of unit length, always in float32, since the losses exponentiate their
        products.
    """

    def __init__(self, feature_dim: int, embedding_dim: int, kind: Head = "mcl") -> None:
        super().__init__()
        width = feature_dim if kind == "mlp" else embedding_dim
        self.hidden = nn.Identity() if kind == "linear" else nn.Linear(feature_dim, width)
        self.relu = nn.Identity() if kind == "linear" else nn.ReLU(inplace=True)
        self.output = nn.Linear(feature_dim if kind == "linear" else width, embedding_dim)

    def forward(self, features: Tensor) -> Tensor:
        """Return the embeddings [B, D] of features [B, F]."""
        raw_BD = cast("Tensor", self.output(self.relu(self.hidden(features))))
        return nn.functional.normalize(raw_BD.float(), dim=-1)
