"""Torch's process group of a worker group: it uses the address that Ray has for each node, and leaves no resources."""

from __future__ import annotations

import os
from typing import Any

import ray
from ray.train.torch import TorchConfig
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError

GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"
"""Variable of the network interface that gloo uses; without it, the one to which the host's name resolves."""


class ProcessGroupConfig(TorchConfig):
    """Configuration of Ray Train's backend for torch, with two corrections in how a group begins."""

    @property
    def backend_cls(self) -> type:
        """Return the class that Ray Train makes the backend of."""
        return _Backend


class _Backend(TorchConfig().backend_cls):  # type: ignore[misc]  # Ray leaves it untyped
    """Ray Train's own backend, which sets up the process group of torch."""

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        """Set up the process group.

        Ray ends a group whose set-up fails without giving its resources back, and the next one waits for them without
        end: so they are given back here.

        Raises:
            WorkerGroupStartupFailedError: it failed, for which Ray tries again, as its nodes may have been lost.
        """
        try:
            worker_group.execute(use_interface_of_ray)
            super().on_start(worker_group, backend_config)
        except Exception as error:
            worker_group.abort()
            raise WorkerGroupStartupFailedError(f"its process group could not start: {error}") from error


def use_interface_of_ray() -> None:
    """Have gloo use the interface whose address Ray has for this node, unless the user has set another one.

    The name of a host often resolves to a loopback address, as in Debian's own /etc/hosts, or to none at all.
    """
    import psutil  # type: ignore[import-untyped]  # Ray ships it

    address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    interfaces = psutil.net_if_addrs().items()
    names = [name for name, addresses in interfaces if address in (one.address for one in addresses)]
    if names:
        os.environ.setdefault(GLOO_INTERFACE, names[0])
