"""The public names of the results store: the writers of runs and sweeps, and the readers.

Code outside `mcl_ray.results` imports these names from here. Access to files is in `atomic_io.py`; synchronisation of
this machine's replica with a remote store is in `remote/`.
"""

from mcl_ray.results.atomic_io import ensure_writable
from mcl_ray.results.provenance import Provenance
from mcl_ray.results.reader import (
    ENDED,
    cache_records,
    find_run,
    find_sweep,
    has_ended,
    is_finished,
    is_run,
    read_epochs,
    read_runs,
    read_spec,
    read_sweeps,
    read_unreadable,
    recorded_state,
    state_of,
    wait_for_orphans,
)
from mcl_ray.results.remote.pull import open_results
from mcl_ray.results.run_writer import RunWriter
from mcl_ray.results.schema import EpochRow
from mcl_ray.results.sweep_writer import SweepWriter

__all__ = [
    "ENDED",
    "EpochRow",
    "Provenance",
    "RunWriter",
    "SweepWriter",
    "cache_records",
    "ensure_writable",
    "find_run",
    "find_sweep",
    "has_ended",
    "is_finished",
    "is_run",
    "open_results",
    "read_epochs",
    "read_runs",
    "read_spec",
    "read_sweeps",
    "read_unreadable",
    "recorded_state",
    "state_of",
    "wait_for_orphans",
]
