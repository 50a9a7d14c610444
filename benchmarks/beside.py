"""Two ways to the same gradient, side by side: seconds, and peak bytes, each of these in a process of its own."""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from benchmarks.record import print_line, ratios

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
OURS, EVIDENT = "ours", "evident"


class Case(Protocol):
    """A problem with two ways through it, forward and backward."""

    def ours(self) -> Tensor:
        """The gradient, as this project computes it."""

    def evident(self) -> Tensor:
        """The gradient, as one would compute it without much thought."""


MakeCase = Callable[[int, str], Case]
"""For so many peers, on a device; a module has to hold it, for other processes to find it."""


def peak_bytes(way: str, make: MakeCase, num_peers: int, device: str) -> int:
    """Of a step, beyond what there was before it."""
    torch.set_num_threads(1)
    case = make(num_peers, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        getattr(case, way)()
        return torch.cuda.max_memory_allocated() - before
    CLEAR.write_text("5")  # the peak from here on
    before = resident_peak()
    getattr(case, way)()
    return resident_peak() - before


def resident_peak() -> int:
    """Bytes of this process that were ever in memory at once; Linux alone says so."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def seconds(case: Case, way: str, device: str) -> float:
    """Of one step."""
    started = time.perf_counter()
    getattr(case, way)()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measure(make: MakeCase, num_peers: int, repeats: int, device: str) -> dict[str, object]:
    """Both ways in turn, once to warm up, when they are also seen to agree."""
    case = make(num_peers, device)
    torch.testing.assert_close(case.ours(), case.evident(), rtol=1e-3, atol=1e-5)
    took: dict[str, list[float]] = {OURS: [], EVIDENT: []}
    for _ in range(repeats):
        for way, times in took.items():
            times.append(seconds(case, way, device))
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        look = partial(peak_bytes, make=make, num_peers=num_peers, device=device)
        peaks = dict(zip(took, pool.map(look, took, chunksize=1), strict=True))
    return {
        "peers": num_peers,
        "seconds": {way: round(statistics.median(times), 4) for way, times in took.items()},
        "times_faster": ratios(took[EVIDENT], took[OURS]),
        "peak_bytes": peaks,
        "times_smaller": round(peaks[EVIDENT] / max(peaks[OURS], 1), 2),
    }


def report(name: str, doc: str | None, fields: dict[str, int], make: Callable[..., Case]) -> None:
    """Measure N = 2 and 4 with what the command line says of `fields`, and print one JSON line."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    for field, default in fields.items():
        parser.add_argument(f"--{field}", type=int, default=default)
    asked = vars(parser.parse_args())
    repeats, device = asked.pop("repeats"), "cuda" if torch.cuda.is_available() else "cpu"
    cases = [measure(partial(make, **asked), peers, repeats, device) for peers in (2, 4)]
    print_line(name, asked | {"cases": cases}, n=repeats, device=device)
