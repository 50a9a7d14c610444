"""The head that turns a peer's features into the embedding that is contrasted. Networks are modules of their own."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from mcl_ray.config.spec import Head

# B images, F features, D embedding


class EmbeddingHead(nn.Module):
    """Linear, ReLU, Linear, L2 normalisation (Yang et al., AAAI 2022, arXiv 2104.12565, section 3).

    Args:
        feature_dim: F.
        embedding_dim: D.
        kind: `mcl` has a hidden layer of width D. MoCo's heads are `mlp`, whose hidden layer has the width F of the
            features (v2: Chen et al., 2020, arXiv 2003.04297), and `linear`, which has none (v1).

    Shape:
        features [B, F]; embeddings [B, D] of unit length, in float32 whatever the precision of the features, for the
        losses exponentiate what comes of them.
    """

    def __init__(self, feature_dim: int, embedding_dim: int, kind: Head = "mcl") -> None:
        super().__init__()
        width = feature_dim if kind == "mlp" else embedding_dim
        self.hidden = nn.Identity() if kind == "linear" else nn.Linear(feature_dim, width)
        self.relu = nn.Identity() if kind == "linear" else nn.ReLU(inplace=True)
        self.output = nn.Linear(feature_dim if kind == "linear" else width, embedding_dim)

    def forward(self, features: Tensor) -> Tensor:
        """Return one unit vector per image."""
        raw_BD = cast("Tensor", self.output(self.relu(self.hidden(features))))
        return nn.functional.normalize(raw_BD.float(), dim=1)
