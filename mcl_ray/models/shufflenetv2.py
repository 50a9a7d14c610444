"""ShuffleNet V2 for small images (Ma et al., ECCV 2018, arXiv 1807.11164): `shufflenetv2_05x`, `shufflenetv2_1x`.

The first convolution keeps the resolution, and no pooling follows it, as in the published code. Weights have torch's
default initialisation, also as in the published code: He's fan-out initialisation makes the weights of a depthwise
convolution far too small, since its fan ignores the groups.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from mcl_ray.models.network import GlobalAveragePool, Network, conv1x1, conv3x3, named

STEM_CHANNELS = 24
FEATURE_DIM = 1024
UNITS_PER_STAGE = (3, 7, 3)


def _depthwise(channels: int, stride: int) -> nn.Sequential:
    return named(conv=conv3x3(channels, channels, stride, groups=channels), norm=nn.BatchNorm2d(channels))


def _pointwise(in_channels: int, out_channels: int) -> nn.Sequential:
    return named(conv=conv1x1(in_channels, out_channels), norm=nn.BatchNorm2d(out_channels), relu=nn.ReLU(inplace=True))


def _transform(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return named(
        expand=_pointwise(in_channels, out_channels),
        depthwise=_depthwise(out_channels, stride),
        project=_pointwise(out_channels, out_channels),
    )


def _shuffled(left: Tensor, right: Tensor) -> Tensor:
    """Interleave two halves, so that the next unit's halves each hold channels of both."""
    return torch.stack((left, right), dim=2).flatten(1, 2)


class DownUnit(nn.Module):
    """Unit that transforms both halves and halves the resolution: [B, in, H, W] to [B, out, H/2, W/2]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.shortcut = named(depthwise=_depthwise(in_channels, 2), project=_pointwise(in_channels, half))
        self.transform = _transform(in_channels, half, stride=2)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the two halves, shuffled."""
        return _shuffled(self.shortcut(maps), self.transform(maps))


class Unit(nn.Module):
    """Unit that transforms one half of the channels: [B, K, H, W] to [B, K, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.transform = _transform(channels // 2, channels // 2, stride=1)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the two halves, shuffled."""
        kept, used = maps.chunk(2, dim=1)
        return _shuffled(kept, cast("Tensor", self.transform(used)))


def _stage(in_channels: int, out_channels: int, num_units: int) -> nn.Sequential:
    units = {f"unit{k + 1}": Unit(out_channels) for k in range(num_units)}
    return named(down=DownUnit(in_channels, out_channels), **units)


def _shufflenetv2(stage_channels: tuple[int, int, int], num_classes: int, in_channels: int) -> Network:
    first, second, third = stage_channels
    stem = named(
        conv=conv3x3(in_channels, STEM_CHANNELS),
        norm=nn.BatchNorm2d(STEM_CHANNELS),
        relu=nn.ReLU(inplace=True),
        stage1=_stage(STEM_CHANNELS, first, UNITS_PER_STAGE[0]),
    )
    branch = named(
        stage2=_stage(first, second, UNITS_PER_STAGE[1]),
        stage3=_stage(second, third, UNITS_PER_STAGE[2]),
        widen=_pointwise(third, FEATURE_DIM),
        pool=GlobalAveragePool(),
    )
    return Network(stem, branch, nn.Linear(FEATURE_DIM, num_classes))


def shufflenetv2_05x(num_classes: int, in_channels: int = 3) -> Network:
    """ShuffleNet V2 0.5×: stages of 48, 96 and 192 channels."""
    return _shufflenetv2((48, 96, 192), num_classes, in_channels)


def shufflenetv2_1x(num_classes: int, in_channels: int = 3) -> Network:
    """ShuffleNet V2 1×: stages of 116, 232 and 464 channels."""
    return _shufflenetv2((116, 232, 464), num_classes, in_channels)
