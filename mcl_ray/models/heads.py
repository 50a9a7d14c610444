"""The head that turns a peer's features into the embedding that is contrasted. Networks are modules of their own."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

# B images, F features, D embedding


class EmbeddingHead(nn.Module):
    """Linear, ReLU, Linear, L2 normalisation (Yang et al., AAAI 2022, arXiv 2104.12565, section 3).

    Shape:
        features [B, F]; embeddings [B, D] of unit length, in float32 whatever the precision of the features, for the
        losses exponentiate what comes of them.
    """

    def __init__(self, feature_dim: int, embedding_dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(feature_dim, embedding_dim)
        self.relu = nn.ReLU(inplace=True)
        self.output = nn.Linear(embedding_dim, embedding_dim)

    def forward(self, features: Tensor) -> Tensor:
        """Return one unit vector per image."""
        raw_BD = cast("Tensor", self.output(self.relu(self.hidden(features))))
        return nn.functional.normalize(raw_BD.float(), dim=1)
