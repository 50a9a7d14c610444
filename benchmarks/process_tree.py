"""Time and memory of a command and of all processes that it starts, those that outlive their parent included.

Linux only: what a process has used is read from `/proc`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

INTERVAL_S = 2.0
"""Reading the memory of the processes of a Ray takes some hundredths of a second of a core."""
GRACE_S = 30.0
POLL_S = 0.05
PROC = Path("/proc")
_PR_SET_CHILD_SUBREAPER = 36
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Usage(NamedTuple):
    """Time and memory of a command and all that it started."""

    wall_s: float
    """Time from its start to its end; others may still run."""
    cpu_s: float
    """CPU time of all processes, without what one used after it was last seen."""
    peak_bytes: int
    """Highest sum of their proportional set sizes (PSS): memory that n of them share counts 1/n for each."""
    processes: int
    """Number of processes that were seen."""


class Process(NamedTuple):
    """One process, as `/proc` shows it."""

    pid: int
    parent: int
    cpu_ticks: int
    started: int
    """Ticks since the start of the system; a later process with the same number has others."""


def measure(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    interval_s: float = INTERVAL_S,
    grace_s: float = GRACE_S,
) -> Usage:
    """Run a command, and return what it and all processes below it have used.

    Processes that outlive the command for too long are killed. This process must have no other children.

    Args:
        command: The program and its arguments.
        folder: Its working directory.
        environment: Its whole environment.
        interval_s: Time between two samples.
        grace_s: Time that processes have to end after the command.

    Raises:
        RuntimeError: the command failed; the message has the end of its output.
    """
    tree = ProcessTree()
    with tempfile.TemporaryFile() as output, ThreadPoolExecutor(1) as pool:
        started = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        stop = threading.Event()
        sampling = pool.submit(tree.sample_until, stop, interval_s)
        try:
            process.returncode = tree.wait_for(process.pid)
            wall_s = time.perf_counter() - started
            tree.end_rest(grace_s)
        finally:
            stop.set()
        sampling.result()
        if process.returncode:
            output.seek(0)
            text = output.read().decode(errors="replace")[-5000:]
            raise RuntimeError(f"`{' '.join(command)}` must end with 0, but ended with {process.returncode}:\n{text}")
    return Usage(wall_s, tree.cpu_s, tree.peak_bytes, tree.num_processes)


class ProcessTree:
    """The processes below this one, which becomes the parent of those whose parent ends, in the place of init."""

    def __init__(self) -> None:
        assert not list(descendants()), "what is measured are all processes below this one"
        adopted = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        assert adopted == 0, "Linux has had this since 3.4"
        self._ticks: dict[tuple[int, int], int] = {}
        self.peak_bytes = 0

    @property
    def cpu_s(self) -> float:
        """CPU time of all processes, as last seen."""
        return sum(self._ticks.values()) / _TICKS_PER_S

    @property
    def num_processes(self) -> int:
        """Number of processes that were seen."""
        return len(self._ticks)

    def sample_until(self, stop: threading.Event, interval_s: float) -> None:
        """Sample at intervals until the event is set."""
        while not stop.wait(interval_s):
            self.sample()

    def sample(self) -> None:
        """Read the CPU time and the memory of all processes."""
        processes = list(descendants())
        for process in processes:
            self._count(process)
        self.peak_bytes = max(self.peak_bytes, sum(pss_bytes(process.pid) for process in processes))

    def wait_for(self, pid: int) -> int:
        """Wait for a child, and return its exit code; other children that end are reaped at once, as init would."""
        while True:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            assert ended is not None, "it waits"
            code = self._reap(ended.si_pid)
            if ended.si_pid == pid:
                return code

    def end_rest(self, grace_s: float) -> None:
        """Wait for the processes that are left, and kill those that do not end."""
        deadline = time.monotonic() + grace_s
        while left := list(descendants()):
            if time.monotonic() > deadline:
                for process in left:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process.pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):  # it has none, but for those that have ended meanwhile
                while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG):
                    self._reap(ended.si_pid)
            time.sleep(POLL_S)

    def _reap(self, pid: int) -> int:
        """Count a child that has ended, which can be read until it is reaped, and return its exit code."""
        if (process := read_process(pid)) is not None:
            self._count(process)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _count(self, process: Process) -> None:
        """Keep the larger value: two threads may see a process, in any order."""
        key = (process.pid, process.started)
        self._ticks[key] = max(self._ticks.get(key, 0), process.cpu_ticks)


def descendants() -> Iterator[Process]:
    """Yield the processes below this one, parents before their children."""
    children: dict[int, list[Process]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdecimal() and (process := read_process(int(entry.name))) is not None:
            children.setdefault(process.parent, []).append(process)
    found = children.get(os.getpid(), [])
    while found:
        yield from found
        found = [child for process in found for child in children.get(process.pid, [])]


def read_process(pid: int) -> Process | None:
    """Return a process, which may have ended without being reaped; None if there is none."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    numbers = text.rpartition(")")[2].split()  # the name before it may hold anything
    return Process(pid, parent=int(numbers[1]), cpu_ticks=int(numbers[11]) + int(numbers[12]), started=int(numbers[19]))


def pss_bytes(pid: int) -> int:
    """Return the proportional set size of a process; 0 if it has ended."""
    try:
        found = re.search(r"^Pss:\s*(\d+) kB", (PROC / str(pid) / "smaps_rollup").read_text(), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 1024 * int(found[1]) if found else 0
