"""Linear classifiers on features of networks that do not change. The networks as they are trained are `cohort`.

N peers, B images, F features, C classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mcl_ray.cohort import Cohort, build_cohort
from mcl_ray.config.spec import CohortSpec
from mcl_ray.models.network import Network

CLASSIFIER_STD = 0.01
"""Of fresh weights, as in MoCo's linear classification."""


class FrozenCohort(Cohort):
    """A cohort of which only the classifiers learn: the rest has no gradient, and never leaves evaluation mode.

    Batch normalisation would move its running statistics otherwise, which are part of the features.

    Args:
        names: what each classifier classifies, [N].
        networks: whose features and classifiers they are, [N].
        share_stem: compute the first network's stem once, for all.
    """

    def __init__(self, names: tuple[str, ...], networks: list[Network], *, share_stem: bool) -> None:
        super().__init__(names, networks, share_stem=share_stem, head=None)
        self.stems.requires_grad_(False)
        self.branches.requires_grad_(False)
        for classifier in self.classifiers:
            nn.init.normal_(classifier.weight, std=CLASSIFIER_STD)  # type: ignore[arg-type]
            nn.init.zeros_(classifier.bias)  # type: ignore[arg-type]
        self.train()

    def train(self, mode: bool = True) -> FrozenCohort:
        """Leave everything but the classifiers in evaluation mode."""
        super().train(mode)
        self.stems.eval()
        self.branches.eval()
        return self

    def features(self, images: Tensor) -> list[Tensor]:
        """As of any cohort, without a gradient."""
        with torch.no_grad():
            return super().features(images)

    def backbone(self) -> dict[str, Tensor]:
        """The tensors that do not change, by name."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("classifiers.")}


class MeanFeatures(nn.Module):
    """The mean of all peers' features: images [B, K, H, W] → [B, F]."""

    def __init__(self, cohort: Cohort) -> None:
        super().__init__()
        self.cohort = cohort

    def forward(self, images: Tensor) -> Tensor:
        """Return one mean for each image."""
        return torch.stack(self.cohort.features(images)).mean(0)


def build_backbone(spec: CohortSpec, in_channels: int = 3) -> Cohort:
    """The networks of a spec with fresh weights, without classifiers and heads."""
    return build_cohort(spec, num_classes=0, in_channels=in_channels, has_heads=False)


def frozen(backbone: Cohort, features: Literal["each", "mean"] | int, num_classes: int) -> FrozenCohort:
    """Fresh classifiers of `each` peer's features, of the `mean` of all, or of those of one peer, by its number."""
    peers = range(backbone.num_peers)
    if features == "mean":
        whole = MeanFeatures(backbone)
        width = backbone.feature_dims[0]
        name = f"the mean of {len(peers)} × {backbone.names[0]}"
        return FrozenCohort((name,), [Network(nn.Identity(), whole, nn.Linear(width, num_classes))], share_stem=False)
    chosen = peers if features == "each" else [features]
    networks = [
        Network(
            backbone.stems[0 if backbone.shares_stem else i],
            backbone.branches[i],
            nn.Linear(backbone.feature_dims[i], num_classes),
        )
        for i in chosen
    ]
    return FrozenCohort(tuple(backbone.names[i] for i in chosen), networks, share_stem=backbone.shares_stem)
