"""Wide residual networks (Zagoruyko and Komodakis, BMVC 2016, arXiv 1605.07146): `wrn_{depth}_{width}`.

Blocks have pre-activation (He et al., arXiv 1603.05027); a shortcut that changes the shape has the normalised and
activated input. There is no dropout, as in the published runs.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from mcl_ray.models.network import GlobalAveragePool, Joinable, Network, conv1x1, conv3x3, initialise_for_relu, named

STEM_CHANNELS = 16


class PreActivationBlock(Joinable):
    """Norm, ReLU and 3 × 3 convolution, twice, and a shortcut: [B, in, H, W] to [B, out, H/stride, W/stride]."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv3x3(in_channels, out_channels, stride)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.shortcut = None if in_channels == out_channels else conv1x1(in_channels, out_channels, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the sum of the residual branch and the shortcut."""
        active = self.relu(self.norm1(maps))
        residual = self.conv2(self.relu(self.norm2(self.conv1(active))))
        kept = maps if self.shortcut is None else self.shortcut(active)
        return cast("Tensor", kept + residual)


def _stage(in_channels: int, out_channels: int, num_blocks: int, stride: int) -> nn.Sequential:
    first = PreActivationBlock(in_channels, out_channels, stride)
    rest = [PreActivationBlock(out_channels, out_channels, 1) for _ in range(num_blocks - 1)]
    return nn.Sequential(first, *rest)


def _wrn(depth: int, width: int, num_classes: int, in_channels: int) -> Network:
    # Two convolutions per block, three stages, and four further ones: the stem's and one shortcut per stage.
    num_blocks = (depth - 4) // 6
    first, second, third = (STEM_CHANNELS * width * scale for scale in (1, 2, 4))
    stem = named(
        conv=conv3x3(in_channels, STEM_CHANNELS),
        stage1=_stage(STEM_CHANNELS, first, num_blocks, stride=1),
    )
    branch = named(
        stage2=_stage(first, second, num_blocks, stride=2),
        stage3=_stage(second, third, num_blocks, stride=2),
        norm=nn.BatchNorm2d(third),
        relu=nn.ReLU(inplace=True),
        pool=GlobalAveragePool(),
    )
    classifier = nn.Linear(third, num_classes)
    network = Network(stem, branch, classifier)
    initialise_for_relu(network)
    nn.init.zeros_(classifier.bias)
    return network


def wrn_16_2(num_classes: int, in_channels: int = 3) -> Network:
    """Wide ResNet of 16 layers, twice as wide."""
    return _wrn(16, 2, num_classes, in_channels)


def wrn_40_2(num_classes: int, in_channels: int = 3) -> Network:
    """Wide ResNet of 40 layers, twice as wide."""
    return _wrn(40, 2, num_classes, in_channels)


def wrn_28_4(num_classes: int, in_channels: int = 3) -> Network:
    """Wide ResNet of 28 layers, four times as wide."""
    return _wrn(28, 4, num_classes, in_channels)
