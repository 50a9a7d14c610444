"""The results store: the writers of runs and sweeps, and the readers, under one name.

All access to files is in `files.py` and the four modules below, so that other stores can be added in one place.
"""

from mcl_ray.results.facts import Facts
from mcl_ray.results.files import check_writable, ensure_writable
from mcl_ray.results.reading import (
    find_run,
    find_sweep,
    has_ended,
    is_finished,
    is_run,
    read_epochs,
    read_runs,
    read_spec,
    read_sweeps,
    state_of,
    wait_for_orphans,
)
from mcl_ray.results.run_writer import EpochRow, RunWriter
from mcl_ray.results.sweep_writer import SweepWriter

__all__ = [
    "EpochRow",
    "Facts",
    "RunWriter",
    "SweepWriter",
    "check_writable",
    "ensure_writable",
    "find_run",
    "find_sweep",
    "has_ended",
    "is_finished",
    "is_run",
    "read_epochs",
    "read_runs",
    "read_spec",
    "read_sweeps",
    "state_of",
    "wait_for_orphans",
]
