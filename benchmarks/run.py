"""Run the benchmarks that take minutes on a CPU, and print which ratios moved since the committed figures.

    python -m benchmarks.run [NAME …] [--write]

The lines of every benchmark are printed as they come. A ratio has moved when its range, minimum to maximum over its
repeats, has no value in common with the committed range (`benchmarks/results/run.jsonl`): the change is larger than
both spreads. Prints one line for each, and exits with 1 if there is one. `--write` puts the new lines in the place of
the committed ones. Ratios compare two implementations within one run, so that they can be compared across runs; other
work on the machine widens their ranges, and other hardware may move them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.commits import CHECKOUT

COMMITTED = CHECKOUT / "benchmarks" / "results" / "run.jsonl"
COMMANDS = {
    "step": ["--repeats=5"],
    "pack": ["--repeats=9", "--runs", "1", "8", "--cases", "digits resnet8 fp32", "digits resnet8 bf16"],
    "losses": ["--repeats=5", "--peers", "2", "4", "8"],
    "bank": ["--repeats=5"],
    "queue": ["--repeats=5"],
    "data": ["--images=600", "--repeats=3"],
    "sweep": ["--trials=8", "--repeats=3"],
    "service": ["rates", "--repeats=3", "--databases", "sqlite"],
}
"""Benchmark → its arguments: few repeats, so that all of them together take about a quarter of an hour on two cores."""
MACHINE = ("hardware", "torch", "commit")

Line = Mapping[str, Any]
"""One JSON object that a benchmark prints."""


class Range(NamedTuple):
    """Median, minimum and maximum of a ratio over the repeats of one run."""

    median: float
    min: float
    max: float

    def __str__(self) -> str:
        return f"{self.median:g} ({self.min:g} to {self.max:g})"


class Move(NamedTuple):
    """A ratio whose two ranges have no value in common."""

    name: str
    before: Range
    now: Range

    def __str__(self) -> str:
        return f"{self.name}: {self.before} → {self.now}"


def ratios_of(lines: Sequence[Line]) -> dict[str, Range]:
    """Return the ratios in the lines of benchmarks by name: the texts of their line, then the path to them."""
    found = dict[str, Range]()
    for line in lines:
        case = " ".join(value for key, value in line.items() if isinstance(value, str) and key not in MACHINE)
        found |= {" ".join((case, *path)): ratio for path, ratio in _ratios(line)}
    return found


def _ratios(value: object) -> Iterator[tuple[tuple[str, ...], Range]]:
    """Yield the ratios inside a value with their paths; those of peers and of runs are named after their number."""
    match value:
        case {"median": float(median), "min": float(lowest), "max": float(highest), **rest} if not rest:
            yield (), Range(median, lowest, highest)
        case dict():
            own = tuple(f"{size}={value[size]}" for size in ("peers", "runs") if size in value)
            for key, inside in value.items():
                yield from (((*own, key, *path), ratio) for path, ratio in _ratios(inside))
        case list():
            for inside in value:
                yield from _ratios(inside)


def moves(before: Sequence[Line], now: Sequence[Line]) -> list[Move]:
    """Return the ratios that moved by more than both spreads; a ratio that is in one of the two alone is left out."""
    committed = ratios_of(before)
    return [
        Move(name, committed[name], ratio)
        for name, ratio in ratios_of(now).items()
        if name in committed and (ratio.min > committed[name].max or ratio.max < committed[name].min)
    ]


def run(name: str, arguments: Sequence[str]) -> list[Line]:
    """Run one benchmark in a process of its own, and return its lines, which are printed too.

    Raises:
        subprocess.CalledProcessError: it failed; its standard error has been shown.
    """
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    found = subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
    print(found.stdout, end="", flush=True)
    return [json.loads(line) for line in found.stdout.splitlines() if line.startswith('{"benchmark"')]


def read(file: Path) -> list[Line]:
    """Return the committed lines, none if there is no file."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def write(file: Path, now: Sequence[Line]) -> None:
    """Put lines in the place of those of the same benchmarks."""
    names = {line["benchmark"] for line in now}
    kept = [line for line in read(file) if line["benchmark"] not in names]
    file.write_text("".join(json.dumps(line) + "\n" for line in [*kept, *now]), "utf-8")


def main() -> None:
    """Run what is asked for, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*COMMANDS, []], metavar="NAME", help=", ".join(COMMANDS))
    parser.add_argument("--write", action="store_true", help="put the new lines in the place of the committed ones")
    options = parser.parse_args()
    now = [line for name in options.names or COMMANDS for line in run(name, COMMANDS[name])]
    before = read(COMMITTED)
    moved = moves(before, now)
    for move in moved:
        print(move)
    compared = len(ratios_of(now).keys() & ratios_of(before).keys())
    print(f"{len(moved)} of {compared} ratios moved by more than their spread")
    if options.write:
        write(COMMITTED, now)
    sys.exit(1 if moved and not options.write else 0)


if __name__ == "__main__":
    main()
