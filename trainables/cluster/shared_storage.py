"""Whether every node of a cluster sees the folders that a driver sees, asked before any work is done there."""

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
"""How long a network's file system may take to show a new file elsewhere."""
ANSWERS_WITHIN_S = 60.0

Sight = list[str] | int | None
"""What lies at a path: a folder's names, a file's size, or nothing."""


def check_shared(environment: Environment, results: Path, data: Sequence[Path | Uri]) -> None:
    """Whether workers can be on any node: each must see the results folder, and the same data as is here.

    Args:
        environment: Of the workers; with a store, that is what each node must be able to write.
        results: A folder, made if need be.
        data: Files, folders and objects of stores that a worker reads.

    Raises:
        StoreError: a node does not see the results folder or the store, or cannot write there.
        DataError: a node sees other data, or none.
        UserError: a node cannot be asked.
    """
    nodes = alive_nodes()
    if len(nodes) == 1:
        return
    with nullcontext(environment.store) if environment.store else probe(results) as sign:
        expected = [look(path) for path in data]
        answers = [(node, _ask(node, sign, data)) for node in nodes]
        for node, answer in answers:
            where = f"node {node['NodeManagerAddress']} ({node['NodeID'][:8]})"
            why_not, sights = _answer(where, answer)
            if why_not is not None:
                raise StoreError(f"every node must see and may write the results, but {where} cannot: {why_not}")
            for path, here, there in zip(data, expected, sights, strict=True):
                if here != there:
                    raise DataError(
                        f"every node must see the same data, but at {path}, {where} has {_words(there)} and this one "
                        f"{_words(here)}"
                    )


def look(path: Path | Uri) -> Sight:
    """What lies at a path here."""
    if isinstance(path, Uri):
        return remote_at(path).size()
    if path.is_dir():
        return sorted(entry.name for entry in path.iterdir())
    return path.stat().st_size if path.exists() else None


def _ask(node: dict[str, Any], sign: Path | Uri, data: Sequence[Path | Uri]) -> Any:
    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return ray.remote(_report).options(num_cpus=0, scheduling_strategy=there, max_retries=0).remote(sign, data)


def _report(sign: Path | Uri, data: Sequence[Path | Uri]) -> tuple[str | None, list[Sight]]:
    """Runs on a node: why it cannot see the sign or write beside it, and what it sees of the data."""
    try:
        if isinstance(sign, Uri):
            remote_at(sign).check_writable()
        else:
            _check_folder(sign)
        return None, [look(path) for path in data]
    except StoreError as error:
        return str(error), []


def _check_folder(sign: Path) -> None:
    deadline = time.monotonic() + SEEN_WITHIN_S
    while not sign.exists():
        if time.monotonic() >= deadline:
            raise StoreError(f"it does not see {sign.parent}")
        time.sleep(0.1)
    with probe(sign.parent):
        pass


def _answer(where: str, answer: Any) -> tuple[str | None, list[Sight]]:
    try:
        seen: tuple[str | None, list[Sight]] = ray.get(answer, timeout=ANSWERS_WITHIN_S)
    except ray.exceptions.RayError as error:  # it went away, or has not this program
        raise UserError(f"every node must be able to run this program, but {where} is not: {error}") from error
    return seen


def _words(sight: Sight) -> str:
    if sight is None:
        return "nothing"
    if isinstance(sight, int):
        return f"a file of {sight:,} bytes"
    return f"a folder of {len(sight)} entries"
