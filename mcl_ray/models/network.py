"""The common form of all networks: a stem that peers can share, a branch, and a classifier.

This module also has the layers that several architectures use. Each architecture has its own module; cohorts are in
`mcl_ray.cohort`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

from torch import Tensor, nn

# B images, K input channels, M networks, H × W pixels, F features, C classes


class Network(nn.Module):
    """An image classifier that also returns its features.

    Args:
        stem: maps images to the feature maps of the first stage; the part that peers can share. Later layers must not
            change its output in place, since several branches read it.
        branch: maps the feature maps of the first stage to features.
        classifier: maps features to logits; the identity for a network without classifier, whose logits are its
            features.

    Shape:
        images [B, K, H, W]; logits [B, C]; features [B, F].
    """

    def __init__(self, stem: nn.Module, branch: nn.Module, classifier: nn.Linear | nn.Identity) -> None:
        super().__init__()
        self.stem = stem
        self.branch = branch
        self.classifier = classifier

    @property
    def feature_dim(self) -> int:
        """Dimension F of the features."""
        assert isinstance(self.classifier, nn.Linear), "networks are built with a classifier"
        return self.classifier.in_features

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (logits, features)."""
        features_BF = cast("Tensor", self.branch(self.stem(images)))
        return self.classifier(features_BF), features_BF


class Joinable(nn.Module):
    """Module whose own operations are the same for several networks: on maps [B, M·K, H, W], on features [M, B, F].

    Its parts compute all else. Stacks of such modules are computed with the fewest operations, see `stacked`.
    """


class GlobalAveragePool(nn.Module):
    """Mean over all positions: [B, K, H, W] to [B, K]."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return one value per channel."""
        return maps.mean(dim=(2, 3))


def named(**modules: nn.Module) -> nn.Sequential:
    """Chain modules in the given order; their names are their prefixes in the state dict."""
    return nn.Sequential(OrderedDict(modules))


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, groups: int = 1, dilation: int = 1) -> nn.Conv2d:
    """Build a 3 × 3 convolution without bias, padded so that only the stride reduces the resolution."""
    return nn.Conv2d(
        in_channels, out_channels, 3, stride, padding=dilation, dilation=dilation, groups=groups, bias=False
    )


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """Build a 1 × 1 convolution without bias."""
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


def initialise_for_relu(network: nn.Module) -> None:
    """Initialise every convolution so that the variance of gradients is constant over layers.

    He et al., ICCV 2015 (arXiv 1502.01852), fan-out variant. Torch already initialises batch norms as the identity.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
