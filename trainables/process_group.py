"""Torch's process group of a worker group: it uses the address that Ray has for each node, and leaves no resources.

Ray Train may leave the reserved resources of a group, its placement group, behind: if the set-up of the process group
fails, or if a node is lost that has both the group's controller and what would clean up after it. The next group would
wait for them without end. So the id of a group's placement group is kept by Ray's head, and what a predecessor of the
same name has left is removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray import PlacementGroupID
from ray.experimental import internal_kv
from ray.train.torch import TorchConfig
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError
from ray.util.placement_group import PlacementGroup, remove_placement_group

from trainables.cluster.connect import loss_behind

GLOO_INTERFACE = "GLOO_SOCKET_IFNAME"
"""Variable of the network interface that gloo uses; without it, the one to which the host's name resolves."""
NAMESPACE = b"mcl_ray.placement_groups"
"""Namespace of the ids in the key-value store of Ray's head."""


@dataclass
class ProcessGroupConfig(TorchConfig):
    """Configuration of Ray Train's backend for torch, with two corrections in how a group begins."""

    group: str = ""
    """Name of the group, unique among those that train at the same time."""

    @property
    def backend_cls(self) -> type:
        """Return the class that Ray Train makes the backend of."""
        return _Backend


class _Backend(TorchConfig().backend_cls):  # type: ignore[misc]  # Ray leaves it untyped
    """Ray Train's own backend, which sets up the process group of torch."""

    def on_start(self, worker_group: Any, backend_config: ProcessGroupConfig) -> None:
        """Set up the process group, and have its placement group kept in mind.

        Raises:
            WorkerGroupStartupFailedError: it failed, for which Ray tries again, as its nodes may have been lost.
        """
        try:
            placement = worker_group.get_worker_group_state().placement_group_handle.placement_group
            internal_kv._internal_kv_put(_key(backend_config.group), placement.id.binary(), namespace=NAMESPACE)
            worker_group.execute(use_interface_of_ray)
            super().on_start(worker_group, backend_config)
        except Exception as error:
            worker_group.abort()
            raise WorkerGroupStartupFailedError(f"its process group could not start: {error}") from error


@contextmanager
def resources_given_back(group: str) -> Iterator[None]:
    """Remove the placement group that the group of this name has left, before and after it trains in this context.

    Raises:
        ClusterLostError: the local Ray has ended, with all that it had reserved.
    """
    _remove_left(group)
    try:
        yield
    except BaseException as error:
        if (lost := loss_behind(error)) is not None:
            raise lost from error
        _remove_left(group)
        raise
    _remove_left(group)


def _remove_left(group: str) -> None:
    if found := internal_kv._internal_kv_get(_key(group), namespace=NAMESPACE):
        remove_placement_group(PlacementGroup(PlacementGroupID(found)))
        internal_kv._internal_kv_del(_key(group), namespace=NAMESPACE)


def _key(group: str) -> bytes:
    """Return the key of a group of this driver: ids of Ray end with that of its job, and another job has others."""
    return f"{ray.get_runtime_context().get_job_id()}/{group}".encode()


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
