"""The decision to stop a run early, a file in its folder that is written before the run's process is ended.

A run that ends without it was not stopped but interrupted, whatever closed it, and is resumed.
"""

from __future__ import annotations

import json
from pathlib import Path

from mcl_ray.results.atomic_io import write_atomically
from mcl_ray.results.schema import verified, with_checksum

STOP_FILE = "stop.json"


def decide_stop(run_folder: Path, epoch: int) -> None:
    """Record that a run is to be stopped after `epoch`, which it reported last.

    Raises:
        StoreError: the folder cannot be written.
    """
    write_atomically(run_folder / STOP_FILE, json.dumps(with_checksum({"epoch": epoch})).encode())


def is_stop_decided(run_folder: Path, epochs_done: int) -> bool:
    """Return whether a run with so many epochs was to be stopped; a run that was trained further was not."""
    try:  # none, or damaged: the run is resumed, and judged again
        return bool(verified(json.loads((run_folder / STOP_FILE).read_bytes()))["epoch"] >= epochs_done)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
