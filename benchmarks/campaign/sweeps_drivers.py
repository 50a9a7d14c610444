"""Drivers of the campaign on sweeps, and the processes below them.

Most drivers are forked from a process that has imported what they need, and so are the workers of their Rays: a kill is
then cheap, and imports are no part of what is killed. One driver in ten is an interpreter of its own, as a user's is.
"""

from __future__ import annotations

import os
import random
import select
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from tests.support import ray_worker_server
from tests.support.forked import ON_RAY, ForkedProcess

FORKED = (*ON_RAY, "mcl_ray.reports.build")
NOT_FORKED = 0.1
"""Share of the drivers that are interpreters of their own, with Ray's own workers."""


class Drivers:
    """Starts drivers, and knows how long they take until a trial has an epoch on record."""

    def __init__(self, moments: random.Random) -> None:
        self._moments = moments
        self.started: dict[str, int] = {"forked": 0, "own": 0}
        """Number of drivers that were forked, and of those with an interpreter of their own."""
        self.mean_pause_s: float | None = None
        """Mean pause before a kill."""

    def start(self, command: list[str], log: Path) -> subprocess.Popen[Any]:
        """Start a driver, the first of all forked."""
        is_forked = self._moments.random() >= NOT_FORKED or not self.started["forked"]
        self.started["forked" if is_forked else "own"] += 1
        variables = os.environ | ray_worker_server.variables() | {"COLUMNS": "200", "OMP_NUM_THREADS": "1"}
        with log.open("ab") as output:
            start = partial(ForkedProcess, modules=FORKED) if is_forked else subprocess.Popen
            return start(command, stdout=output, stderr=output, start_new_session=True, env=variables)


def titled(pids: Iterable[int], titles: tuple[str, ...]) -> list[int]:
    """Return those of some processes whose title, or else path, holds one of `titles`."""
    found = []
    for pid in pids:
        with suppress(OSError):
            first = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
            if any(title in first for title in titles):
                found.append(pid)
    return found


def still_running(processes: Iterable[int], within_s: float) -> list[int]:
    """Wait for the ends of processes, given by their file descriptors; return those that run after a time."""
    left, deadline = list(processes), time.monotonic() + within_s
    while left and (rest_s := deadline - time.monotonic()) > 0:
        ended = select.select(left, [], [], rest_s)[0]
        left = [process for process in left if process not in ended]
    return left
