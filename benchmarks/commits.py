"""Run one command with the code of an earlier commit and with this checkout's, alternately, and compare their times.

    python -m benchmarks.commits c5bbcbf [--repeats 5] -- -m mcl_ray.train --help
    python -m benchmarks.commits c5bbcbf --until 'sweeps/*/runs/*/epochs*' -- \
        -m mcl_ray.sweep digits trials=2 epochs=1 scheduler.kind=none --results {out}

Prints one JSON line: wall-clock seconds and CPU seconds of both, and the ratios of this checkout to the commit. `{out}`
in the command stands for an empty folder, a new one for each run. With `--until`, the wall-clock time ends when that
folder has a file of this pattern; the command then runs to its end. The commit comes from this repository's history.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.record import print_line, ratios

CHECKOUT = Path(__file__).resolve().parents[1]
POLL_S = 0.02


class Seconds(NamedTuple):
    """Duration of one process and its children."""

    wall: float
    cpu: float


def extract(commit: str, folder: Path) -> None:
    """Extract the tree of `commit` into `folder`."""
    command = ["git", "archive", commit]
    archive = subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=True)  # noqa: S603
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")


def run(tree: Path, arguments: Sequence[str], until: str | None = None) -> Seconds:
    """Run Python with `arguments` and the code of `tree`; the wall time may end before, with a file of a pattern.

    Raises:
        subprocess.CalledProcessError: the command failed, or ended without such a file; its standard error has been
            shown.
    """
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, *(word.replace("{out}", out) for word in arguments)]
        environment = os.environ | {"PYTHONPATH": str(tree)}
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        process = subprocess.Popen(command, cwd=tree, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
        is_complete = until is None or _is_seen(process, Path(out), until)
        seen, code = time.perf_counter(), process.wait()
        wall = (time.perf_counter() if until is None else seen) - started
        if code or not is_complete:
            raise subprocess.CalledProcessError(code, command)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Seconds(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _is_seen(process: subprocess.Popen[bytes], folder: Path, pattern: str) -> bool:
    """Wait until a folder has a file of a pattern, or the process has ended, and return whether there is a file."""
    while process.poll() is None and next(folder.glob(pattern), None) is None:
        time.sleep(POLL_S)
    return next(folder.glob(pattern), None) is not None


def main() -> None:
    """Measure both in turns, after one run of each that is not counted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--until", metavar="PATTERN", help="end each run when {out} has a file of this pattern")
    parser.add_argument("command", nargs="+", help="arguments of Python, after --")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        extract(asked.commit, Path(folder))
        trees = {"here": CHECKOUT, asked.commit: Path(folder)}
        times: dict[str, list[Seconds]] = {name: [] for name in trees}
        for repeat in range(asked.repeats + 1):
            for name, tree in trees.items():
                measured = run(tree, asked.command, asked.until)
                if repeat > 0:
                    times[name].append(measured)
    here, there = times["here"], times[asked.commit]
    figures = {
        "command": " ".join(asked.command),
        "until": asked.until,
        "compared_with": asked.commit,
        "wall_s": {name: round(statistics.median(one.wall for one in runs), 3) for name, runs in times.items()},
        "cpu_s": {name: round(statistics.median(one.cpu for one in runs), 3) for name, runs in times.items()},
        "wall_ratio": ratios([one.wall for one in here], [one.wall for one in there]),
        "cpu_ratio": ratios([one.cpu for one in here], [one.cpu for one in there]),
    }
    print_line("commits", figures, n=asked.repeats)


if __name__ == "__main__":
    main()
