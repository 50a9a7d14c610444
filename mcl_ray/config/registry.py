"""Registry of networks and data sets by name; importing it loads nothing heavy.

A network's builder is a dotted path, so that a name can be checked before torch is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Regime = Literal["cifar", "imagenet"]


@dataclass(frozen=True, kw_only=True)
class NetworkEntry:
    """Registration of a network."""

    builder: str
    """`module:function`; the function takes (num_classes, in_channels) and returns a `models.network.Network`."""
    regime: Regime = "cifar"
    """Image size that it is designed for: about 32 × 32 pixels (`cifar`) or about 224 × 224 (`imagenet`)."""
    published_name: str | None = None
    """Name in the published code; None for networks that are not part of it."""


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """Expected size of a data source, for estimates: as published, and as ImageNet for `folder` and `parquet`."""

    num_classes: int
    """Number of classes, C."""
    image_shape: tuple[int, int, int]
    """Channels, height and width in pixels."""
    num_train: int
    """Number of training images."""
    num_test: int
    """Number of test images."""


def _network(module: str, name: str, published_name: str | None = None) -> NetworkEntry:
    regime: Regime = "imagenet" if module == "resnet_imagenet" else "cifar"
    return NetworkEntry(builder=f"mcl_ray.models.{module}:{name}", regime=regime, published_name=published_name)


NETWORKS: dict[str, NetworkEntry] = {
    "resnet8": _network("resnet_cifar", "resnet8"),
    "resnet20": _network("resnet_cifar", "resnet20"),
    "resnet32": _network("resnet_cifar", "resnet32", "resnet32"),
    "resnet56": _network("resnet_cifar", "resnet56", "resnet56"),
    "resnet110": _network("resnet_cifar", "resnet110", "resnet110"),
    "wrn_16_2": _network("wrn", "wrn_16_2", "wrn_16_2"),
    "wrn_40_2": _network("wrn", "wrn_40_2", "wrn_40_2"),
    "wrn_28_4": _network("wrn", "wrn_28_4", "wrn_28_4"),
    "hcgnet_a1": _network("hcgnet", "hcgnet_a1", "hcgnet_A1"),
    "hcgnet_a2": _network("hcgnet", "hcgnet_a2", "hcgnet_A2"),
    "shufflenetv2_05x": _network("shufflenetv2", "shufflenetv2_05x", "ShuffleNetV2_05x"),
    "shufflenetv2_1x": _network("shufflenetv2", "shufflenetv2_1x", "ShuffleNetV2_1x"),
    "resnet18": _network("resnet_imagenet", "resnet18", "resnet18"),
    "resnet34": _network("resnet_imagenet", "resnet34", "resnet34"),
    "resnet50": _network("resnet_imagenet", "resnet50"),
    "resnet101": _network("resnet_imagenet", "resnet101"),
    "resnet152": _network("resnet_imagenet", "resnet152"),
    "resnext50_32x4d": _network("resnet_imagenet", "resnext50_32x4d"),
    "resnext101_32x8d": _network("resnet_imagenet", "resnext101_32x8d"),
    "resnext101_64x4d": _network("resnet_imagenet", "resnext101_64x4d"),
    "wide_resnet50_2": _network("resnet_imagenet", "wide_resnet50_2"),
    "wide_resnet101_2": _network("resnet_imagenet", "wide_resnet101_2"),
}

DATASETS: dict[str, DatasetEntry] = {
    "cifar": DatasetEntry(num_classes=100, image_shape=(3, 32, 32), num_train=50_000, num_test=10_000),
    "cifar10": DatasetEntry(num_classes=10, image_shape=(3, 32, 32), num_train=50_000, num_test=10_000),
    "MNIST": DatasetEntry(num_classes=10, image_shape=(1, 28, 28), num_train=60_000, num_test=10_000),
    "FashionMNIST": DatasetEntry(num_classes=10, image_shape=(1, 28, 28), num_train=60_000, num_test=10_000),
    "KMNIST": DatasetEntry(num_classes=10, image_shape=(1, 28, 28), num_train=60_000, num_test=10_000),
    "USPS": DatasetEntry(num_classes=10, image_shape=(1, 16, 16), num_train=7_291, num_test=2_007),
    "SVHN": DatasetEntry(num_classes=10, image_shape=(3, 32, 32), num_train=73_257, num_test=26_032),
    "STL10": DatasetEntry(num_classes=10, image_shape=(3, 96, 96), num_train=5_000, num_test=8_000),
    "digits": DatasetEntry(num_classes=10, image_shape=(1, 8, 8), num_train=1_437, num_test=360),
    "folder": DatasetEntry(num_classes=1000, image_shape=(3, 224, 224), num_train=1_281_167, num_test=50_000),
    "parquet": DatasetEntry(num_classes=1000, image_shape=(3, 224, 224), num_train=1_281_167, num_test=50_000),
}


def published_networks(regime: Regime) -> list[str]:
    """Return the names of the networks of the published tables in this regime."""
    return [name for name, entry in NETWORKS.items() if entry.published_name and entry.regime == regime]
