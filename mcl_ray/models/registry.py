"""Building of networks by name; the names are in `mcl_ray.config.registry`, which imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from mcl_ray.config.registry import NETWORKS
from mcl_ray.errors import SpecError, unknown
from mcl_ray.models.network import Network


def build_network(name: str, num_classes: int, in_channels: int = 3) -> Network:
    """Build a network with random weights from torch's global generator.

    Args:
        name: name of the network.
        num_classes: C.
        in_channels: K.

    Raises:
        SpecError: there is no network of this name.
    """
    if name not in NETWORKS:
        raise SpecError(unknown("network", name, NETWORKS))
    module, _, function = NETWORKS[name].builder.partition(":")
    builder = cast("Callable[[int, int], Network]", getattr(import_module(module), function))
    return builder(num_classes, in_channels)
