"""Whether every node of a cluster sees the folders that a driver sees, asked before any work is done there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mcl_ray.errors import DataError, StoreError, UserError
from mcl_ray.results.files import probe
from trainables.cluster import alive_nodes

SEEN_WITHIN_S = 5.0
"""How long a network's file system may take to show a new file elsewhere."""
ANSWERS_WITHIN_S = 60.0

Sight = list[str] | int | None
"""What lies at a path: a folder's names, a file's size, or nothing."""


def check_shared(results: Path, data: Sequence[Path]) -> None:
    """Whether workers can be on any node: each must see the results folder, and the same data as is here.

    Args:
        results: A folder, made if need be.
        data: Files and folders that a worker reads.

    Raises:
        StoreError: a node does not see the results folder, or cannot write there.
        DataError: a node sees other data, or none.
        UserError: a node cannot be asked.
    """
    nodes = alive_nodes()
    if len(nodes) == 1:
        return
    with probe(results) as sign:
        expected = [look(path) for path in data]
        answers = [(node, _ask(node, sign, data)) for node in nodes]
        for node, answer in answers:
            where = f"node {node['NodeManagerAddress']} ({node['NodeID'][:8]})"
            sees_results, sights = _answer(where, answer)
            if not sees_results:
                raise StoreError(f"every node must see and may write the results folder, but {where} not {results}")
            for path, here, there in zip(data, expected, sights, strict=True):
                if here != there:
                    raise DataError(
                        f"every node must see the same data, but at {path}, {where} has {_words(there)} and this one "
                        f"{_words(here)}"
                    )


def look(path: Path) -> Sight:
    """What lies at a path here."""
    if path.is_dir():
        return sorted(entry.name for entry in path.iterdir())
    return path.stat().st_size if path.exists() else None


def _ask(node: dict[str, Any], sign: Path, data: Sequence[Path]) -> Any:
    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return ray.remote(_report).options(num_cpus=0, scheduling_strategy=there, max_retries=0).remote(sign, data)


def _report(sign: Path, data: Sequence[Path]) -> tuple[bool, list[Sight]]:
    """Runs on a node: whether it sees the sign and may write beside it, and what it sees of the data."""
    deadline = time.monotonic() + SEEN_WITHIN_S
    while not sign.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return sign.exists() and _can_write(sign.parent), [look(path) for path in data]


def _can_write(folder: Path) -> bool:
    try:
        with probe(folder):
            return True
    except StoreError:
        return False


def _answer(where: str, answer: Any) -> tuple[bool, list[Sight]]:
    try:
        seen: tuple[bool, list[Sight]] = ray.get(answer, timeout=ANSWERS_WITHIN_S)
    except ray.exceptions.RayError as error:  # it went away, or has not this program
        raise UserError(f"every node must be able to run this program, but {where} is not: {error}") from error
    return seen


def _words(sight: Sight) -> str:
    if sight is None:
        return "nothing"
    if isinstance(sight, int):
        return f"a file of {sight:,} bytes"
    return f"a folder of {len(sight)} entries"
