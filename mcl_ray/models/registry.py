"""Building of networks by name; the names are in `mcl_ray.config.registry`, which imports nothing heavy."""

from __future__ import annotations

from mcl_ray.config.registry import NETWORKS, imported
from mcl_ray.errors import SpecError, unknown
from mcl_ray.models.network import Network


def build_network(name: str, num_classes: int, in_channels: int = 3) -> Network:
    """Build a network with random weights from torch's global generator.

    Args:
        name: name of the network.
        num_classes: C.
        in_channels: K.

    Raises:
        SpecError: there is no network of this name, or the function of a plugin does not return a `Network`.
    """
    if name not in NETWORKS:
        raise SpecError(unknown("network", name, NETWORKS))
    network = imported(NETWORKS[name].builder)(num_classes, in_channels)
    if not isinstance(network, Network):
        raise SpecError(
            f"a network's function must return a mcl_ray.models.network.Network, but that of {name!r} returned "
            f"{type(network).__name__}"
        )
    return network
