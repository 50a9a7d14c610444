"""Residual networks for large images from torchvision (He et al., CVPR 2016, arXiv 1512.03385, and its variants).

The stem is the first convolution and stages 1 and 2, the part that published cohorts of four share. Names of tensors
within a stage are torchvision's own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn
from torchvision.models import resnet

from mcl_ray.models.network import GlobalAveragePool, Network, named


def _network(build: Callable[..., resnet.ResNet], num_classes: int, in_channels: int = 3) -> Network:
    """Split a network of torchvision into a stem, a branch and a classifier."""
    whole = build(num_classes=num_classes)
    if in_channels != whole.conv1.in_channels:
        whole.conv1 = nn.Conv2d(in_channels, whole.conv1.out_channels, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(whole.conv1.weight, mode="fan_out", nonlinearity="relu")
    stem = named(
        conv=whole.conv1,
        norm=whole.bn1,
        relu=whole.relu,
        pool=whole.maxpool,
        stage1=whole.layer1,
        stage2=whole.layer2,
    )
    branch = named(stage3=whole.layer3, stage4=whole.layer4, pool=GlobalAveragePool())
    return Network(stem, branch, whole.fc)


resnet18 = partial(_network, resnet.resnet18)
resnet34 = partial(_network, resnet.resnet34)
resnet50 = partial(_network, resnet.resnet50)
resnet101 = partial(_network, resnet.resnet101)
resnet152 = partial(_network, resnet.resnet152)
resnext50_32x4d = partial(_network, resnet.resnext50_32x4d)
resnext101_32x8d = partial(_network, resnet.resnext101_32x8d)
resnext101_64x4d = partial(_network, resnet.resnext101_64x4d)
wide_resnet50_2 = partial(_network, resnet.wide_resnet50_2)
wide_resnet101_2 = partial(_network, resnet.wide_resnet101_2)
