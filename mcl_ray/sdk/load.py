"""Opening a run or a sweep by one name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mcl_ray.config.environment import Environment
from mcl_ray.object_store import Uri
from mcl_ray.results.reader import is_sweep
from mcl_ray.results.remote import pull
from mcl_ray.sdk.options import location
from mcl_ray.sdk.run import Run

if TYPE_CHECKING:
    from mcl_ray.sdk.sweep import Sweep


def load(name: str | Path, *, results: str | Path = Environment.results) -> Run | Sweep:
    """Open a run or a sweep.

    Args:
        name: Its folder, its URI, or its id below `results`.
        results: Results folder, or URI of a store.

    Raises:
        StoreError: there is neither.
    """
    folder = _local_folder(name)
    if not folder.exists():
        folder = _local_folder(results) / "sweeps" / folder.name
    if not is_sweep(folder):
        return Run.open(name, results=results)
    from mcl_ray.sdk.sweep import Sweep

    return Sweep.open(folder)


def _local_folder(name: str | Path) -> Path:
    """Return a path as it is, and for a URI its replica on this machine."""
    path = location(name)
    return pull.pull_replica(path) if isinstance(path, Uri) else path
