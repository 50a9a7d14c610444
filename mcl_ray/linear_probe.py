"""Linear classifiers on the features of frozen networks. Cohorts whose networks are trained are in `cohort`.

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
"""Standard deviation of the classifiers' initial weights, as in MoCo's linear classification."""


class FrozenCohort(Cohort):
    """A cohort in which only the classifiers learn: all else has no gradient and stays in evaluation mode.

    In training mode, batch normalisation would update its running statistics and so change the features.

    Args:
        names: a name for the features of each classifier, [N].
        networks: the networks with the features and the classifiers, [N].
        share_stem: compute the first network's stem once, for all networks.
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
        """Set the mode of the classifiers; everything else stays in evaluation mode."""
        super().train(mode)
        self.stems.eval()
        self.branches.eval()
        return self

    def features(self, images: Tensor) -> list[Tensor]:
        """Return each network's features, [N] of [B, F], of images [B, K, H, W], without a gradient."""
        with torch.no_grad():
            return super().features(images)

    def backbone(self) -> dict[str, Tensor]:
        """Return the frozen tensors by name."""
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("classifiers.")}


class MeanFeatures(nn.Module):
    """Mean of all peers' features: images [B, K, H, W] → [B, F]."""

    def __init__(self, cohort: Cohort) -> None:
        super().__init__()
        self.cohort = cohort

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean feature vector of each image."""
        return torch.stack(self.cohort.features(images)).mean(0)


def build_backbone(spec: CohortSpec, in_channels: int = 3) -> Cohort:
    """Build the networks of a spec with random weights, without classifiers and heads."""
    return build_cohort(spec, num_classes=0, in_channels=in_channels, has_heads=False)


def build_linear_classifiers(
    backbone: Cohort, features: Literal["each", "mean"] | int, num_classes: int
) -> FrozenCohort:
    """Freeze a backbone and build new linear classifiers on its features.

    Args:
        backbone: the networks, which are frozen; their tensors are used, not copied.
        features: one classifier for `each` peer's features, one for the `mean` of all peers' features, or one for the
            features of the peer with this index.
        num_classes: C.
    """
    peers = range(backbone.num_peers)
    if features == "mean":
        mean = MeanFeatures(backbone)
        width = backbone.feature_dims[0]
        name = f"the mean of {len(peers)} × {backbone.names[0]}"
        return FrozenCohort((name,), [Network(nn.Identity(), mean, nn.Linear(width, num_classes))], share_stem=False)
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
