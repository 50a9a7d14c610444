"""The Ray that trials and groups run on, a local one of our own or a cluster that somebody keeps; and what fits on it.

What runs there is `trial.py` and `group.py`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

# Ray reads these when it is imported.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
# Sweeps resume from their own records: Tune's snapshot is never read, and a trial that failed has no score to report.
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")

import ray
from rich.console import Console

from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.errors import SpecError, UserError
from trainables.cluster.address import check_cluster
from trainables.cluster.token import ensure_token

OBJECT_STORE_BYTES = 200_000_000


@contextmanager
def connect(execution: ExecutionOptions, console: Console) -> Iterator[None]:
    """Be a driver of the place's Ray; without an address, of a local Ray of our own, which ends with this context.

    Raises:
        UserError: nothing of this Ray's version answers at the address, or it does not take this machine or its token.
    """
    if execution.address is None:
        ensure_token()
        # Never somebody else's that happens to run here.
        where: dict[str, Any] = {
            "address": "local",
            "include_dashboard": not execution.no_dashboard,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    else:
        where = {"address": check_cluster(execution.address)}
    try:
        context = ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
    except (RuntimeError, ConnectionError) as error:  # another Python than the cluster's, say
        if execution.address is None:
            raise
        told = f"this process must be able to join the Ray cluster at {execution.address}, but: {error}"
        raise UserError(told) from error
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # what failed is told by our own line and its record
    if context.dashboard_url:
        console.print(f"Ray dashboard: http://{context.dashboard_url}", highlight=False)
    try:
        yield
    finally:
        ray.shutdown()


def bundle(execution: ExecutionOptions) -> dict[str, float]:
    """What Ray is to reserve on one node for a worker, or for a trial without any.

    GPUs where none were asked for: one if a node has any or the device is cuda, none if the device is cpu.
    """
    gpus = execution.gpus_per_worker
    if gpus is None:
        found = max((node.get("GPU", 0.0) for node in _nodes()), default=0.0)
        gpus = 1.0 if execution.device == "cuda" else min(1.0, found)
    return {"CPU": execution.cpus_per_worker, "GPU": 0.0 if execution.device == "cpu" else gpus}


def fits(needed: Mapping[str, float], fewest: int = 1, most: int = 1) -> int:
    """How many trials fit on the nodes at once, each with as many workers as it may have; a worker lies on one node.

    Args:
        needed: What a worker reserves.
        fewest: Workers that a trial cannot do without.
        most: Workers that it may have.

    Raises:
        SpecError: not one fits, and it would wait for ever.
    """
    bundles = fitting(needed)
    if bundles < fewest:
        if not bundles:
            raise SpecError(f"a worker must fit on one node, but {described(needed)}")
        raise SpecError(f"{fewest} workers must fit on the nodes, but {described(needed)}: {bundles} fit")
    return max(1, bundles // max(fewest, most))


def fitting(needed: Mapping[str, float]) -> int:
    """How many workers fit on the nodes as they are now, if nobody else was there."""
    wanted = {name: amount for name, amount in needed.items() if amount}
    return sum(min(_times(node.get(name, 0.0), amount) for name, amount in wanted.items()) for node in _nodes())


def described(needed: Mapping[str, float]) -> str:
    """What a worker needs and what the nodes have, for a person; of the same nodes always the same."""
    amounts = sorted((node.get("GPU", 0), node.get("CPU", 0)) for node in _nodes())
    have = "; ".join(f"{cpus:g} CPU cores and {gpus:g} GPUs" for gpus, cpus in reversed(amounts))
    return f"each needs {needed['CPU']:g} CPU cores and {needed.get('GPU', 0):g} GPUs, and the nodes have {have}"


def _times(amount: float, needed: float) -> int:
    """How often a need fits; fractions of a GPU never span two of them."""
    if 0 < needed < 1:
        return int(amount) * int(1 / needed + 1e-6) if float(amount).is_integer() else int(amount / needed + 1e-6)
    return int(amount / needed + 1e-6)


def alive_nodes() -> list[dict[str, Any]]:
    """The nodes of the Ray that this process has joined, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]  # Ray leaves it untyped


def _nodes() -> list[dict[str, Any]]:
    return [dict(node["Resources"]) for node in alive_nodes()]
