"""Residual networks for small images (He et al., CVPR 2016, arXiv 1512.03385, section 4.2).

Three stages of 16, 32 and 64 channels at full, half and quarter resolution; `resnet110` has bottlenecks, four times as
wide at their output. Shortcuts that change shape are convolutions (the paper's option B), as in the published code.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from mcl_ray.models.network import GlobalAveragePool, Joinable, Network, conv1x1, conv3x3, initialise_for_relu, named

STAGE_CHANNELS = (16, 32, 64)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels))


class BasicBlock(Joinable):
    """Two 3 × 3 convolutions and a shortcut: [B, in, H, W] to [B, out, H/stride, W/stride]."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, channels, stride)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels)
        self.norm2 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(in_channels, channels, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the sum of the residual branch and the shortcut."""
        residual = self.relu(self.norm1(self.conv1(maps)))
        residual = self.norm2(self.conv2(residual))
        return cast("Tensor", self.relu(residual + self.shortcut(maps)))


class Bottleneck(Joinable):
    """Convolutions of 1 × 1, 3 × 3 and 1 × 1, and a shortcut: [B, in, H, W] to [B, 4·channels, H/stride, W/stride]."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.conv1 = conv1x1(in_channels, channels)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = conv3x3(channels, channels, stride)
        self.norm2 = nn.BatchNorm2d(channels)
        self.conv3 = conv1x1(channels, out_channels)
        self.norm3 = nn.BatchNorm2d(out_channels)
        self.shortcut = _shortcut(in_channels, out_channels, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the sum of the residual branch and the shortcut."""
        residual = self.relu(self.norm1(self.conv1(maps)))
        residual = self.relu(self.norm2(self.conv2(residual)))
        residual = self.norm3(self.conv3(residual))
        return cast("Tensor", self.relu(residual + self.shortcut(maps)))


Block = type[BasicBlock] | type[Bottleneck]


def _stage(block: Block, in_channels: int, channels: int, num_blocks: int, stride: int) -> nn.Sequential:
    first = block(in_channels, channels, stride)
    rest = [block(channels * block.expansion, channels, 1) for _ in range(num_blocks - 1)]
    return nn.Sequential(first, *rest)


def _resnet(block: Block, blocks_per_stage: int, num_classes: int, in_channels: int) -> Network:
    first, second, third = STAGE_CHANNELS
    wider = block.expansion
    stem = named(
        conv=conv3x3(in_channels, first),
        norm=nn.BatchNorm2d(first),
        relu=nn.ReLU(inplace=True),
        stage1=_stage(block, first, first, blocks_per_stage, stride=1),
    )
    branch = named(
        stage2=_stage(block, first * wider, second, blocks_per_stage, stride=2),
        stage3=_stage(block, second * wider, third, blocks_per_stage, stride=2),
        pool=GlobalAveragePool(),
    )
    network = Network(stem, branch, nn.Linear(third * wider, num_classes))
    initialise_for_relu(network)
    return network


def resnet8(num_classes: int, in_channels: int = 3) -> Network:
    """ResNet with one basic block per stage; small enough for images of 8 × 8 pixels and for tests."""
    return _resnet(BasicBlock, 1, num_classes, in_channels)


def resnet20(num_classes: int, in_channels: int = 3) -> Network:
    """ResNet with three basic blocks per stage."""
    return _resnet(BasicBlock, 3, num_classes, in_channels)


def resnet32(num_classes: int, in_channels: int = 3) -> Network:
    """ResNet with five basic blocks per stage."""
    return _resnet(BasicBlock, 5, num_classes, in_channels)


def resnet56(num_classes: int, in_channels: int = 3) -> Network:
    """ResNet with nine basic blocks per stage."""
    return _resnet(BasicBlock, 9, num_classes, in_channels)


def resnet110(num_classes: int, in_channels: int = 3) -> Network:
    """ResNet with twelve bottlenecks per stage."""
    return _resnet(Bottleneck, 12, num_classes, in_channels)
