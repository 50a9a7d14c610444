"""Check that every node of the cluster has the plugins of a spec, and the same ones, before any work starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mcl_ray.config.plugins import MAIN, PluginRecord, import_plugins, plugin_records
from mcl_ray.errors import SpecError, UserError
from trainables.cluster.connect import alive_nodes

ANSWERS_WITHIN_S = 300.0
"""Time that a node may take to import the plugins, which may import torch."""


def check_plugins(modules: Sequence[str]) -> None:
    """Check that a worker on any node can import the plugins, and that they are those of this process.

    Args:
        modules: names of the modules, which this process has imported.

    Raises:
        SpecError: a plugin is a script or a notebook, or a node cannot import it, or has another version of it.
        UserError: a node cannot be asked.
    """
    if not modules:
        return
    if MAIN in modules:
        raise SpecError(
            "workers on Ray import plugins, but parts of a script or a notebook exist in its process alone; put them "
            f"into a module, and name it, but got plugins={', '.join(modules)}"
        )
    own = plugin_records(modules)
    nodes = alive_nodes()
    for node, answer in [(node, _ask(node, modules)) for node in nodes]:
        where = f"node {node['NodeManagerAddress']} ({node['NodeID'][:8]})"
        found = _answer(where, answer)
        if isinstance(found, str):
            raise SpecError(f"every node must have the plugins, but {where} has not: {found}")
        for here, there in zip(own, found, strict=True):
            if here != there:
                raise SpecError(
                    f"every node must have the same plugins, but of {here.module}, {where} has {_describe(there)} and "
                    f"this one {_describe(here)}"
                )


def _ask(node: dict[str, Any], modules: Sequence[str]) -> Any:
    on_node = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return ray.remote(_records).options(num_cpus=0, scheduling_strategy=on_node, max_retries=0).remote(tuple(modules))


def _records(modules: Sequence[str]) -> list[PluginRecord] | str:
    """Return, on a node, what it has of the plugins; or why it cannot import them."""
    try:
        import_plugins(modules)
    except SpecError as error:
        return str(error)
    return plugin_records(modules)


def _answer(where: str, answer: Any) -> list[PluginRecord] | str:
    try:
        found: list[PluginRecord] | str = ray.get(answer, timeout=ANSWERS_WITHIN_S)
    except ray.exceptions.RayError as error:  # the node was lost, or does not have this program
        raise UserError(f"every node must be able to run this program, but {where} is not: {error}") from error
    return found


def _describe(plugin: PluginRecord) -> str:
    checksum = "no file" if plugin.sha256 is None else f"a file of sha256 {plugin.sha256[:10]}"
    return checksum if plugin.distribution is None else f"{plugin.distribution} {plugin.version}, {checksum}"
