"""Runs that are held still in their middle, so that what is killed there has something to go on from and to do."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mcl_ray.results.store import read_runs
from tests.support.running_command import RunningCommand, descendants, send


@contextmanager
def held_in_the_middle(
    running: RunningCommand, results: Path, below: int, title: str, num_runs: int = 1
) -> Iterator[list[int]]:
    """Hold still so many runs, each once it has two epochs on record and three to come, and yield their processes.

    Those below the process `below` whose command line holds `title`: all of them for one run, which a group may train,
    and for several runs the one of each.
    """
    held: dict[str, list[int]] = {}
    try:
        while len(held) < num_runs:
            if running.process.poll() is not None:
                raise AssertionError(f"no run was seen in its middle:\n{running.end()[1]}")
            for run_id in _in_their_middle(results) - held.keys():
                pids = descendants(below, title)
                if num_runs > 1:
                    pids = [pid for pid in pids if _writes(pid, run_id)]
                send(pids, signal.SIGSTOP)
                if pids and run_id in _in_their_middle(results):
                    held[run_id] = pids
                else:
                    send(pids, signal.SIGCONT)
            time.sleep(0.05)
        yield [pid for pids in held.values() for pid in pids]
    finally:
        for pids in held.values():
            send(pids, signal.SIGCONT)


def _in_their_middle(results: Path) -> set[str]:
    return {run["run_id"] for run in read_runs(results).to_pylist() if _is_in_its_middle(run)}


def _is_in_its_middle(run: dict[str, Any]) -> bool:
    return run["state"] == "running" and 2 <= run["epochs_done"] <= run["epochs_planned"] - 3


def _writes(pid: int, run_id: str) -> bool:
    """Whether a process has the lock of a run, which is a file in the run's folder."""
    with suppress(OSError):
        return any(run_id in str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir())
    return False
