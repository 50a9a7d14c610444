"""Gated convolutional networks with hybrid connectivity (Yang et al., AAAI 2020, arXiv 1908.09699).

Dense stages of SMG units, whose outputs are mixed by two gates, with a gated transition between stages: `hcgnet_a1`,
`hcgnet_a2`. Weights have torch's default initialisation, as in the published code: He's fan-out initialisation makes
the weights of a depthwise convolution far too small, since its fan ignores the groups.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from mcl_ray.models.network import GlobalAveragePool, Network, conv1x1, conv3x3, named

# B images, K channels, L positions (H × W), S scales

UNITS_PER_STAGE = 8
BOTTLENECK = 4
UNIT_GROUPS = 4
UNIT_REDUCTION = 2
TRANSITION_REDUCTION = 4


def _pre_activated(conv: nn.Conv2d) -> nn.Sequential:
    return named(norm=nn.BatchNorm2d(conv.in_channels), relu=nn.ReLU(inplace=True), conv=conv)


class AttentivePool(nn.Module):
    """Mean over positions, weighted by a softmax of one learned score per position: [B, K, H, W] to [B, K, 1, 1]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(channels, 1, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Return one value per channel."""
        scores_B1L = cast("Tensor", self.score(maps)).flatten(2)
        return (maps.flatten(2) * scores_B1L.softmax(dim=2)).sum(dim=2)[:, :, None, None]


class UpdateGate(nn.Module):
    """Update gate: a near and a far context, mixed channel by channel; [B, K, H, W] to [B, K, 1, 1].

    The near context is a depthwise 3 × 3 convolution, the far context one of dilation 2, which spans 5 × 5.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        reduced = 2 * channels // reduction
        self.near = _pre_activated(conv3x3(channels, channels, groups=channels))
        self.far = _pre_activated(conv3x3(channels, channels, groups=channels, dilation=2))
        self.near_context = AttentivePool(channels)
        self.far_context = AttentivePool(channels)
        self.squeeze = nn.Conv2d(2 * channels, reduced, 1)
        self.norm = nn.BatchNorm2d(reduced)
        self.near_score = nn.Conv2d(reduced, channels, 1)
        self.far_score = nn.Conv2d(reduced, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the mixture of contexts."""
        near = self.near_context(self.near(maps))
        far = self.far_context(self.far(maps))
        summary = torch.tanh(self.norm(self.squeeze(torch.cat((near, far), dim=1))))
        scores_SBK11 = torch.stack((self.near_score(summary), self.far_score(summary)))
        near_weight, far_weight = scores_SBK11.softmax(dim=0)
        return cast("Tensor", near_weight * near + far_weight * far)


class ForgetGate(nn.Module):
    """Forget gate: the factor of each channel, in (0, 1); [B, K, H, W] to [B, K, 1, 1]."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        reduced = channels // reduction
        self.context = AttentivePool(channels)
        self.norm = nn.BatchNorm2d(reduced)
        self.squeeze = nn.Conv2d(channels, reduced, 1)
        self.expand = nn.Conv2d(reduced, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Return one factor per channel."""
        summary = torch.tanh(self.norm(self.squeeze(self.context(maps))))
        return torch.sigmoid(self.expand(summary))


class GatedUpdate(nn.Module):
    """Product of the maps and the forget gate, plus the update gate: [B, K, H, W] to [B, K, H, W]."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.update_gate = UpdateGate(channels, reduction)
        self.forget_gate = ForgetGate(channels, reduction)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the gated maps."""
        return cast("Tensor", maps * self.forget_gate(maps) + self.update_gate(maps))


class SMGUnit(nn.Module):
    """SMG unit (squeeze, multi-scale, gate), concatenated with its input: [B, K, H, W] to [B, K + growth, H, W]."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.squeeze = _pre_activated(conv1x1(in_channels, BOTTLENECK * growth))
        self.spatial = _pre_activated(conv3x3(BOTTLENECK * growth, growth, groups=UNIT_GROUPS))
        self.gated = GatedUpdate(growth, UNIT_REDUCTION)

    def forward(self, maps: Tensor) -> Tensor:
        """Append `growth` channels."""
        return torch.cat((maps, self.gated(self.spatial(self.squeeze(maps)))), dim=1)


def _stage(in_channels: int, growth: int) -> nn.Sequential:
    units = {f"unit{k + 1}": SMGUnit(in_channels + k * growth, growth) for k in range(UNITS_PER_STAGE)}
    return named(**units)


def _transition(in_channels: int) -> nn.Sequential:
    """Halve resolution and channels: [B, K, H, W] to [B, K/2, H/2, W/2]."""
    out_channels = in_channels // 2
    between = in_channels - (in_channels - out_channels) // 2
    return named(
        squeeze=_pre_activated(conv1x1(in_channels, between)),
        spatial=_pre_activated(conv3x3(between, out_channels, stride=2)),
        gated=GatedUpdate(out_channels, TRANSITION_REDUCTION),
    )


def _hcgnet(growths: tuple[int, int, int], num_classes: int, in_channels: int) -> Network:
    initial = 2 * growths[0]
    end1 = initial + UNITS_PER_STAGE * growths[0]
    end2 = end1 // 2 + UNITS_PER_STAGE * growths[1]
    end3 = end2 // 2 + UNITS_PER_STAGE * growths[2]
    stem = named(conv=conv3x3(in_channels, initial), stage1=_stage(initial, growths[0]), transition1=_transition(end1))
    branch = named(
        stage2=_stage(end1 // 2, growths[1]),
        transition2=_transition(end2),
        stage3=_stage(end2 // 2, growths[2]),
        norm=nn.BatchNorm2d(end3),
        relu=nn.ReLU(inplace=True),
        pool=GlobalAveragePool(),
    )
    return Network(stem, branch, nn.Linear(end3, num_classes))


def hcgnet_a1(num_classes: int, in_channels: int = 3) -> Network:
    """HCGNet-A1: stages that grow by 12, 24 and 36 channels per unit."""
    return _hcgnet((12, 24, 36), num_classes, in_channels)


def hcgnet_a2(num_classes: int, in_channels: int = 3) -> Network:
    """HCGNet-A2: stages that grow by 24, 36 and 64 channels per unit."""
    return _hcgnet((24, 36, 64), num_classes, in_channels)
