"""A front door as a process whose lines are followed while it runs, and the processes below it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENDS_WITHIN_S = 300


class Door:
    """`python -m mcl_ray.sweep …`, or another door, writing below `results`."""

    def __init__(
        self, results: Path, *arguments: str, door: str = "sweep", variables: Mapping[str, str] | None = None
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"mcl_ray.{door}", *arguments, "--results", str(results)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=os.environ | (variables or {}),
            start_new_session=True,
        )
        self.results, self.lines = results, []

    def until(self, pattern: str) -> re.Match[str]:
        """The first line from here on that matches."""
        for line in self.process.stdout:
            self.lines.append(line)
            found = re.match(pattern, line)
            if found:
                return found
        raise AssertionError(f"{pattern!r} never came:\n{''.join(self.lines)}")

    def end(self) -> tuple[int, str]:
        """The exit code and everything that was said."""
        self.lines += list(self.process.stdout)
        self.process.stdout.close()
        return self.process.wait(timeout=ENDS_WITHIN_S), "".join(self.lines)

    def close(self) -> None:
        """Kill it, as no other way is sure."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    @property
    def folder(self) -> Path:
        """The only sweep's."""
        (folder,) = (self.results / "sweeps").iterdir()
        return folder


def descendants(ancestor: int, title: str) -> list[int]:
    """Processes below `ancestor` whose command line holds `title`."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    parents = {int(pid): int(parent) for pid, parent, _ in rows}

    def is_below(pid: int) -> bool:
        return pid == ancestor or (pid in parents and is_below(parents[pid]))

    return [int(pid) for pid, _, arguments in rows if title in arguments and is_below(int(pid))]
