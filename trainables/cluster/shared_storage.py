"""The check that every node of a cluster sees the folders that the driver sees, made before any work starts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mcl_ray.config.environment import Environment
from mcl_ray.errors import DataError, StoreError, UserError
from mcl_ray.object_store import Uri, remote_at
from mcl_ray.results.atomic_io import probe
from trainables.cluster.connect import alive_nodes

SEEN_WITHIN_S = 5.0
"""Time that a network file system may take to show a new file on another node."""
ANSWERS_WITHIN_S = 300.0
"""Time that a node may take to answer, which may start a process for it first."""

Entry = list[str] | int | None
"""Content of a path: the names in a folder, the size of a file in bytes, or None."""


def check_shared(environment: Environment, results: Path, data: Sequence[Path | Uri]) -> None:
    """Check that workers can run on any node: each must see the results folder, and the same data as this node.

    Args:
        environment: Environment of the workers; if it has a store, each node must be able to write it.
        results: The results folder, made if it is missing.
        data: Files, folders and objects of stores that a worker reads.

    Raises:
        StoreError: a node does not see the results folder or the store, or cannot write it.
        DataError: a node sees other data, or none.
        UserError: a node cannot be asked.
    """
    nodes = alive_nodes()
    if len(nodes) == 1:
        return
    with nullcontext(environment.store) if environment.store else probe(results) as marker:
        expected = [look(path) for path in data]
        answers = [(node, _ask(node, marker, data)) for node in nodes]
        for node, answer in answers:
            where = f"node {node['NodeManagerAddress']} ({node['NodeID'][:8]})"
            why_not, entries = _answer(where, answer)
            if why_not is not None:
                raise StoreError(f"every node must see and may write the results, but {where} cannot: {why_not}")
            for path, local, remote in zip(data, expected, entries, strict=True):
                if local != remote:
                    raise DataError(
                        f"every node must see the same data, but at {path}, {where} has {_describe(remote)} and this "
                        f"one {_describe(local)}"
                    )


def look(path: Path | Uri) -> Entry:
    """Return the content of a path on this node."""
    if isinstance(path, Uri):
        return remote_at(path).size()
    if path.is_dir():
        return sorted(entry.name for entry in path.iterdir())
    return path.stat().st_size if path.exists() else None


def _ask(node: dict[str, Any], marker: Path | Uri, data: Sequence[Path | Uri]) -> Any:
    on_node = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return ray.remote(_report).options(num_cpus=0, scheduling_strategy=on_node, max_retries=0).remote(marker, data)


def _report(marker: Path | Uri, data: Sequence[Path | Uri]) -> tuple[str | None, list[Entry]]:
    """Return, on a node, why it cannot see the marker or write beside it, if so, and the content of the data paths."""
    try:
        if isinstance(marker, Uri):
            remote_at(marker).check_writable()
        else:
            _check_folder(marker)
        return None, [look(path) for path in data]
    except StoreError as error:
        return str(error), []


def _check_folder(marker: Path) -> None:
    deadline = time.monotonic() + SEEN_WITHIN_S
    while not marker.exists():
        if time.monotonic() >= deadline:
            raise StoreError(f"it does not see {marker.parent}")
        time.sleep(0.1)
    with probe(marker.parent):
        pass


def _answer(where: str, answer: Any) -> tuple[str | None, list[Entry]]:
    try:
        seen: tuple[str | None, list[Entry]] = ray.get(answer, timeout=ANSWERS_WITHIN_S)
    except ray.exceptions.RayError as error:  # the node was lost, or does not have this program
        raise UserError(f"every node must be able to run this program, but {where} is not: {error}") from error
    return seen


def _describe(entry: Entry) -> str:
    if entry is None:
        return "nothing"
    if isinstance(entry, int):
        return f"a file of {entry:,} bytes"
    return f"a folder of {len(entry)} entries"
