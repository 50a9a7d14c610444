"""Build a network by its name; the names are in `mcl_ray.config.registry`, which loads nothing heavy."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from mcl_ray.config.registry import NETWORKS
from mcl_ray.errors import SpecError, unknown
from mcl_ray.models.network import Network


def build_network(name: str, num_classes: int, in_channels: int = 3) -> Network:
    """Build a network with fresh weights, drawn from torch's global generator.

    Raises:
        SpecError: no network goes by this name.
    """
    if name not in NETWORKS:
        raise SpecError(unknown("network", name, NETWORKS))
    module, _, function = NETWORKS[name].builder.partition(":")
    builder = cast("Callable[[int, int], Network]", getattr(import_module(module), function))
    return builder(num_classes, in_channels)
