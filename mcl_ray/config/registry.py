"""Registries of networks and data sets by name: the built-in ones, and those that plugins add.

Importing this loads nothing heavy: what is built in is named by a dotted path, so that a name can be checked before
torch is imported. `mcl_ray.register` has the decorators, `config/methods.py` the training methods.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, Literal, TypeVar

from mcl_ray.config.plugins import import_installed
from mcl_ray.errors import SpecError

Regime = Literal["cifar", "imagenet"]
Entry = TypeVar("Entry")
NAME = re.compile(r"[A-Za-z0-9_]{1,40}")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """Parts of one kind by name, the built-in ones first.

    A name that is not known is looked for once more after the modules of installed plugins were imported.

    Args:
        kind: noun of the parts, for error messages.
        built_in: name → entry of those that this package has.
    """

    def __init__(self, kind: str, built_in: Mapping[str, Entry]) -> None:
        self.kind = kind
        self._built_in = dict(built_in)
        self._added: dict[str, tuple[Entry, str]] = {}

    def add(self, name: str, entry: Entry, module: str) -> None:
        """Register a part of a plugin; a module may replace its own, as a cell of a notebook does that runs again.

        Args:
            name: its name in specs.
            entry: what is known of it.
            module: name of the module that registers it.

        Raises:
            SpecError: the name has other characters than letters, digits and underscores, or is taken.
        """
        if not NAME.fullmatch(name):
            raise SpecError(
                f"the name of a {self.kind} must have 1 to 40 letters, digits and underscores, but got {name!r}"
            )
        owner = "mcl_ray" if name in self._built_in else self.module_of(name)
        if owner not in (None, module):
            raise SpecError(
                f"the name of a {self.kind} must be free, but {name!r} of {module} is registered by {owner}"
            )
        self._added[name] = entry, module

    def module_of(self, name: str) -> str | None:
        """Return the module that registered a part; None for a built-in one, and for one that is not known."""
        return self._added[name][1] if name in self._added else None

    @property
    def added(self) -> Set[str]:
        """Names of the parts that plugins have registered."""
        return self._added.keys()

    def __getitem__(self, name: str) -> Entry:
        if name in self._built_in:
            return self._built_in[name]
        if name not in self._added:
            import_installed()
        return self._added[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter([*self._built_in, *self._added])

    def __len__(self) -> int:
        return len(self._built_in) + len(self._added)


def imported(part: str | Callable[..., Any]) -> Callable[..., Any]:
    """Return what an entry names by `module:name`; a plugin's entry has the object itself."""
    if not isinstance(part, str):
        return part
    module, _, name = part.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


@dataclass(frozen=True, kw_only=True)
class NetworkEntry:
    """Registration of a network."""

    builder: str | Callable[..., Any]
    """Function that takes (num_classes, in_channels) and returns a `models.network.Network`, or its `module:name`."""
    regime: Regime = "cifar"
    """Image size that it is designed for: about 32 × 32 pixels (`cifar`) or about 224 × 224 (`imagenet`)."""
    published_name: str | None = None
    """Name in the published code; None for networks that are not part of it."""

    def is_of(self, module: str) -> bool:
        """Return whether a module of this package has the builder."""
        return isinstance(self.builder, str) and self.builder.startswith(f"{module}:")


@dataclass(frozen=True, kw_only=True)
class DatasetSize:
    """Size of a data set, for estimates where its images are missing."""

    num_classes: int
    """Number of classes, C."""
    image_shape: tuple[int, int, int]
    """Channels, height and width in pixels."""
    num_train: int
    """Number of training images."""
    num_test: int
    """Number of test images."""


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """Registration of a data set."""

    size: DatasetSize | None = None
    """Size as published, that of ImageNet for `folder` and `parquet`; None if only the images say it."""
    loader: Callable[..., Any] | None = None
    """Function of a plugin that takes (folder, download) and returns a `data.dataset.Dataset`; None for the sources of
    this package, which `data.source` loads."""
    is_encoded: bool = False
    """True if images are decoded on demand rather than held in memory."""
    reads_files: bool = True
    """True if the images are below the folder of the data; otherwise they come with an installed package."""


def _network(module: str, name: str, published_name: str | None = None) -> NetworkEntry:
    regime: Regime = "imagenet" if module == "resnet_imagenet" else "cifar"
    return NetworkEntry(builder=f"mcl_ray.models.{module}:{name}", regime=regime, published_name=published_name)


NETWORKS: Registry[NetworkEntry] = Registry(
    "network",
    {
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
    },
)

_SIZES = {
    "cifar": DatasetSize(num_classes=100, image_shape=(3, 32, 32), num_train=50_000, num_test=10_000),
    "cifar10": DatasetSize(num_classes=10, image_shape=(3, 32, 32), num_train=50_000, num_test=10_000),
    "MNIST": DatasetSize(num_classes=10, image_shape=(1, 28, 28), num_train=60_000, num_test=10_000),
    "FashionMNIST": DatasetSize(num_classes=10, image_shape=(1, 28, 28), num_train=60_000, num_test=10_000),
    "KMNIST": DatasetSize(num_classes=10, image_shape=(1, 28, 28), num_train=60_000, num_test=10_000),
    "USPS": DatasetSize(num_classes=10, image_shape=(1, 16, 16), num_train=7_291, num_test=2_007),
    "SVHN": DatasetSize(num_classes=10, image_shape=(3, 32, 32), num_train=73_257, num_test=26_032),
    "STL10": DatasetSize(num_classes=10, image_shape=(3, 96, 96), num_train=5_000, num_test=8_000),
    "digits": DatasetSize(num_classes=10, image_shape=(1, 8, 8), num_train=1_437, num_test=360),
}
_IMAGENET = DatasetSize(num_classes=1000, image_shape=(3, 224, 224), num_train=1_281_167, num_test=50_000)
DATASETS: Registry[DatasetEntry] = Registry(
    "data set",
    {name: DatasetEntry(size=size, reads_files=name != "digits") for name, size in _SIZES.items()}
    | {name: DatasetEntry(size=_IMAGENET, is_encoded=True) for name in ("folder", "parquet")}
    | {"npz": DatasetEntry()},
)


def published_networks(regime: Regime) -> list[str]:
    """Return the names of the networks of the published tables in this regime."""
    return [name for name, entry in NETWORKS.items() if entry.published_name and entry.regime == regime]
