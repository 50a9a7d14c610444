"""A command as a process whose output is read while it runs, and its child processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mcl_ray.interruption import IGNORED_FOR_S
from tests.support import forked, ray_worker_server
from tests.support.ray_nodes import RayNodes

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 900.0
"""Far longer than any wait of a test for a line or the end: a process that takes longer hangs, and is killed."""
ALONE = ("baseline={}", "confirm.configurations=0")
"""Fields of a search without runs after its trials."""
WAITING = ("plugins=[tests.support.waiting_network]", "networks=waiting")
"""Fields of a run that takes hardly any CPU time: for one of many epochs, which a test interrupts or lets wait."""


class RunningCommand:
    """`python -m mcl_ray.sweep …`, or another command, that writes below `results`, on `ray` or on one of its own."""

    def __init__(
        self,
        results: Path,
        *arguments: str,
        command: str = "sweep",
        variables: Mapping[str, str] | None = None,
        within_s: float = TIMEOUT_S,
        dashboard: bool = False,
        ray: RayNodes | None = None,
    ) -> None:
        if ray is not None:
            arguments, variables = (*arguments, "--address", ray.address), ray.variables | (variables or {})
        has_its_own_ray = "--address" not in arguments and (command == "sweep" or "--workers" in arguments)
        if has_its_own_ray and not dashboard:
            arguments = (*arguments, "--no-dashboard")  # a tenth of what a small sweep takes
        # With variables of its own, one that starts a Ray is an interpreter of its own: Ray reads some when imported.
        is_alone = has_its_own_ray and bool(variables)
        modules = forked.ON_RAY if has_its_own_ray or "--address" in arguments else forked.TRAINING
        start = subprocess.Popen if is_alone else partial(forked.ForkedProcess, modules=modules)
        workers = ray_worker_server.variables() if has_its_own_ray and not is_alone else {}
        self.process = start(
            [sys.executable, "-m", f"mcl_ray.{command}", *arguments, "--results", str(results)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=os.environ | workers | (variables or {}),
            start_new_session=True,
        )
        self.results, self.lines, self._within_s = results, [], within_s

    def until(self, pattern: str) -> re.Match[str]:
        """Return the match of the next line that matches."""
        with self._deadline(f"a line {pattern!r}"):
            for line in self.process.stdout:
                self.lines.append(line)
                found = re.match(pattern, line)
                if found:
                    return found
        raise AssertionError(f"{pattern!r} never came:\n{''.join(self.lines)}")

    def end(self) -> tuple[int, str]:
        """Return the exit code and the whole output."""
        with self._deadline("the end"):
            for line in self.process.stdout:
                self.lines.append(line)
            code = self.process.wait()
        self.process.stdout.close()
        return code, "".join(self.lines)

    @contextmanager
    def _deadline(self, awaited: str) -> Iterator[None]:
        """Kill it, with its child processes, if the wait takes too long; a blocking read cannot be interrupted."""
        late = threading.Event()

        def kill() -> None:
            late.set()
            kill_below(self.process.pid)

        timer = threading.Timer(self._within_s, kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            if late.is_set():
                said = "".join(self.lines[-50:]) or "nothing"
                raise AssertionError(f"{awaited} did not come within {self._within_s:g} s; last output:\n{said}")

    def close(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    @property
    def folder(self) -> Path:
        """The only sweep's."""
        (folder,) = (self.results / "sweeps").iterdir()
        return folder


@pytest.fixture
def start_command(tmp_path: Path) -> Iterator[Callable[..., RunningCommand]]:
    """Start commands that write below `tmp_path`; those that still run at the end of the test are killed."""
    commands: list[RunningCommand] = []

    def start(*arguments: str, **options: Any) -> RunningCommand:
        commands.append(RunningCommand(tmp_path, *arguments, **options))
        return commands[-1]

    yield start
    for running in commands:
        running.close()


def send(pids: Iterable[int], what: signal.Signals) -> None:
    """A signal to processes of which some may have gone."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, what)


def send_again_and_again(
    process: subprocess.Popen[Any],
    what: signal.Signals,
    to: Callable[[int, int], None] = os.kill,
    pause_s: float = 0.01,
) -> None:
    """Send a signal until a process has ended, or until a command would soon not ignore further ones any more.

    It ignores them while it records its state, which takes long on a machine that does much else.
    """
    until = time.monotonic() + IGNORED_FOR_S / 2
    while process.poll() is None and time.monotonic() < until:
        to(process.pid, what)
        time.sleep(pause_s)


def named(pids: Iterable[int], name: str) -> list[int]:
    """Those of some processes that live and that the kernel knows by this name."""
    found = []
    for pid in pids:
        with suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                found.append(pid)
    return found


def kill_below(ancestor: int) -> None:
    """Kill a process and then all that were below it."""
    below = descendants(ancestor, "")
    send([ancestor, *below], signal.SIGKILL)


def descendants(ancestor: int, title: str) -> list[int]:
    """Processes below `ancestor`, itself included, that live and whose command line holds `title`."""
    words = ["ps", "-ewwo", "pid=,ppid=,stat=,comm=,args="]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    table = [line.split(None, 4) for line in listed.splitlines()]
    rows = [row for row in table if not row[2].startswith("Z")]
    parents = {int(pid): int(parent) for pid, parent, *_ in rows}
    parents |= {int(name): int(pid) for pid, _, _, name, _ in rows if name.isdigit()}  # tests.support.ray_worker

    def is_below(pid: int) -> bool:
        return pid == ancestor or (pid in parents and is_below(parents[pid]))

    return [int(pid) for pid, *_, arguments in rows if title in arguments and is_below(int(pid))]
