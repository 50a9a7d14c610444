"""The type of every network: a stem that peers can share, a branch, a classifier.

The pieces that several architectures build from live here too. Architectures have a module each; cohorts of networks
are `mcl_ray.cohort`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

from torch import Tensor, nn

# B images, K input channels, H × W pixels, F features, C classes


class Network(nn.Module):
    """An image classifier that also returns the features it classifies by.

    Args:
        stem: images to the feature maps of the first stage; all that peers of a cohort can share. Whatever runs after
            it must leave its output as it is, for several branches read it.
        branch: feature maps of the first stage to features.
        classifier: features to logits; the identity for one that classifies nothing, whose logits are its features.

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
        """Width F of the features."""
        assert isinstance(self.classifier, nn.Linear), "what is built classifies"
        return self.classifier.in_features

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (logits, features)."""
        features_BF = cast("Tensor", self.branch(self.stem(images)))
        return self.classifier(features_BF), features_BF


class GlobalAveragePool(nn.Module):
    """Mean over all positions: [B, K, H, W] to [B, K]."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return one value per channel."""
        return maps.mean(dim=(2, 3))


def named(**modules: nn.Module) -> nn.Sequential:
    """A chain of modules that go by name in the state dict, in the order given."""
    return nn.Sequential(OrderedDict(modules))


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, groups: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A 3 × 3 convolution without bias whose output is as large as its input, divided by the stride."""
    return nn.Conv2d(
        in_channels, out_channels, 3, stride, padding=dilation, dilation=dilation, groups=groups, bias=False
    )


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """A 1 × 1 convolution without bias."""
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


def initialise_for_relu(network: nn.Module) -> None:
    """Draw every convolution anew so that variance is kept on the way back (He et al., arXiv 1502.01852).

    Batch norms start as the identity in torch already.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
