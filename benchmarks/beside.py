"""Comparison of two implementations of the same gradient: seconds, and peak bytes, each in a process of its own."""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from benchmarks.record import print_line, ratios

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
OURS, EVIDENT = "ours", "evident"


class Case(Protocol):
    """A problem, and two implementations of its forward and backward pass."""

    def ours(self) -> Tensor:
        """Return the gradient, computed by this project's implementation."""

    def evident(self) -> Tensor:
        """Return the gradient, computed by the straightforward implementation."""


MakeCase = Callable[[int, str], Case]
"""Function from a number of peers and a device to a case; it must be importable, for other processes."""


def peak_bytes(way: str, make: MakeCase, num_peers: int, device: str) -> int:
    """Return the peak bytes of a step, in addition to those in use before it."""
    torch.set_num_threads(1)
    case = make(num_peers, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        getattr(case, way)()
        return torch.cuda.max_memory_allocated() - before
    CLEAR.write_text("5")  # reset the peak
    before = resident_peak()
    getattr(case, way)()
    return resident_peak() - before


def resident_peak() -> int:
    """Return the peak resident bytes of this process; on Linux only."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def seconds(case: Case, way: str, device: str) -> float:
    """Return the wall time of one step."""
    started = time.perf_counter()
    getattr(case, way)()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measure(make: MakeCase, num_peers: int, repeats: int, device: str) -> dict[str, object]:
    """Measure both implementations in turns, after a first step of each, in which their gradients are compared."""
    case = make(num_peers, device)
    torch.testing.assert_close(case.ours(), case.evident(), rtol=1e-3, atol=1e-5)
    took: dict[str, list[float]] = {OURS: [], EVIDENT: []}
    for _ in range(repeats):
        for way, times in took.items():
            times.append(seconds(case, way, device))
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        measure_peak = partial(peak_bytes, make=make, num_peers=num_peers, device=device)
        peaks = dict(zip(took, pool.map(measure_peak, took, chunksize=1), strict=True))
    return {
        "peers": num_peers,
        "seconds": {way: round(statistics.median(times), 4) for way, times in took.items()},
        "times_faster": ratios(took[EVIDENT], took[OURS]),
        "peak_bytes": peaks,
        "times_smaller": round(peaks[EVIDENT] / max(peaks[OURS], 1), 2),
    }


def report(
    name: str, doc: str | None, fields: dict[str, int], make: Callable[..., Case], peers: Sequence[int] = (2, 4)
) -> None:
    """Measure both implementations for each number of peers, and print one JSON line.

    Args:
        name: Name of the benchmark.
        doc: Help text of the command.
        fields: Command-line option → default, passed on to `make`.
        make: Creates a case from a number of peers, a device and `fields`.
        peers: Numbers of peers N, unless the command line has others.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", type=int, nargs="+", default=peers)
    for field, default in fields.items():
        parser.add_argument(f"--{field}", type=int, default=default)
    options = vars(parser.parse_args())
    repeats, asked, device = (
        options.pop("repeats"),
        options.pop("peers"),
        "cuda" if torch.cuda.is_available() else "cpu",
    )
    cases = [measure(partial(make, **options), num_peers, repeats, device) for num_peers in asked]
    print_line(name, options | {"cases": cases}, n=repeats, device=device)
