"""Waiting for a run in another process to reach an epoch, by its record."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from mcl_ray.results.store import read_runs
from tests.support.commands import HANGS_AFTER_S


def runs_of(results: Path) -> list[dict[str, Any]]:
    """Return the records of all runs; none before the first was created."""
    return read_runs(results).to_pylist() if (results / "runs").is_dir() else []


def wait_for_epochs(results: Path, epochs_done: int, *, at_most_s: float | None = None) -> None:
    """Wait until a run has so many epochs on record, or for so long."""
    began = time.monotonic()
    while not any(run["epochs_done"] >= epochs_done for run in runs_of(results)):
        if at_most_s is not None and time.monotonic() - began >= at_most_s:
            return
        assert time.monotonic() - began < HANGS_AFTER_S
        time.sleep(0.05)


def hold_in_the_middle(process: subprocess.Popen[str], results: Path, *, epochs_done: int) -> None:
    """Wait until so many epochs or more are on record and two more are to come, and stop the process (SIGSTOP) there.

    Its record is read while it is stopped: however loaded the machine is, it has not continued.
    """
    deadline = time.monotonic() + HANGS_AFTER_S
    while True:
        process.send_signal(signal.SIGSTOP)
        runs = runs_of(results)
        if any(epochs_done <= run["epochs_done"] <= run["epochs_planned"] - 2 for run in runs):
            return
        process.send_signal(signal.SIGCONT)
        assert process.poll() is None, f"it was not seen in its middle: {runs}"
        assert time.monotonic() < deadline
        time.sleep(0.02)
