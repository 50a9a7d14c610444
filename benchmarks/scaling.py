"""Benchmark of how the cost of training grows: with the peers of a run, the runs of a process, and the batch.

    python -m benchmarks.scaling [--repeats 15] [--threads 1] [--clock cpu] [--small] > FILE
    python -m benchmarks.scaling --markdown FILE

Prints one JSON line per series, on a CPU. Its exponents are b of figure = a · size^b, over all sizes (by least squares)
and between the last two. The second command measures nothing: it prints a Markdown table of such lines.

    peers step_ms    a step of one run of `digits` (resnet8, batch 40) with N peers
    peers peak_mib   memory of a process that trains an epoch of it, at its highest, libraries included
    runs step_ms     a joint step of K runs of two peers each
    runs peak_mib    the same of K runs; `of_processes` divides it by K times that of a process with one run, and
                     `of_processes_sharing_files` counts the pages of the libraries' files, which processes share, once
    batch losses_ms  the four losses within the batch, forward and backward: N = 4, D = 128
    runs losses_ms   the losses of K runs as joint steps compute them, cross-entropy included: N = 2, B = 40, D = 32

Times are measured in turns: two steps of each size after another, the second of which counts. Each peak has a process
of its own, and `mib_each` is the difference of peaks by the difference of sizes. All of it takes about two minutes on
two idle cores.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.beside import STATUS, resident_peak
from benchmarks.losses import LossesCase
from benchmarks.pack import CLOCKS, runs_of
from benchmarks.record import line, ratios
from mcl_ray.cohort import CohortOutput
from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace
from mcl_ray.methods.supervised import Supervised
from mcl_ray.training.pack import steps_of
from mcl_ray.training.run_state import RunState

PEERS_OF_RUNS, PEERS_OF_BATCH, DIM_OF_BATCH = 2, 4, 128
PEAKS = 5
"""Processes of each peak at most."""
MEANINGS = {
    ("peers", "step_ms"): "step of a run of N peers, ms",
    ("peers", "peak_mib"): "its peak memory, MiB",
    ("runs", "step_ms"): "joint step of K runs, ms",
    ("runs", "peak_mib"): "their peak memory, MiB",
    ("batch", "losses_ms"): "four losses of a batch of B, ms",
    ("runs", "losses_ms"): "losses of K runs, ms",
}
"""Size and figure of each series, and its name in a table."""
SHARES = {
    "of_processes": "by that of K processes with one run each",
    "of_processes_sharing_files": "the same, pages of files counted once",
}
"""Share of the memory of K processes, and its name in a table."""
STARTS = {"all": 0, "last": -2}
"""Index of the first size of what an exponent is over."""
SYMBOLS = {"peers": "N", "runs": "K", "batch": "B"}


class Sizes(NamedTuple):
    """Sizes of each series, in ascending order."""

    peers: Sequence[int] = (1, 2, 4, 8, 16)
    runs: Sequence[int] = (1, 2, 4, 8, 16, 32)
    batch: Sequence[int] = (32, 64, 128, 256, 512)


SMALL = Sizes(peers=(1, 2), runs=(1, 4), batch=(8, 16))


class Peak(NamedTuple):
    """Resident memory of a process at its highest, and the part that is pages of files, in MiB."""

    mib: float
    files_mib: float


class Scaling:
    """The settings of a measurement, and its series.

    Args:
        sizes: sizes of each series.
        repeats: number of measurements of each time.
        threads: threads of one operation.
        clock: name of the clock, see `benchmarks.pack.CLOCKS`.
        folder: an empty folder for the runs.
    """

    def __init__(self, sizes: Sizes, *, repeats: int, threads: int, clock: str, folder: Path) -> None:
        self._sizes, self._repeats, self._threads, self._clock, self._folder = sizes, repeats, threads, clock, folder

    def lines(self) -> Iterator[dict[str, object]]:
        """Measure one series after another, and yield the line of each."""
        sizes, of_runs = self._sizes, PEERS_OF_RUNS
        peaks = self._peaks([(peers, 1) for peers in sizes.peers] + [(of_runs, count) for count in sizes.runs])
        of_peers, of_counts = peaks[: len(sizes.peers)], peaks[len(sizes.peers) :]
        yield self._times("peers", "step_ms", sizes.peers, lambda peers: self._step(peers, 1))
        yield self._memory("peers", sizes.peers, of_peers)
        yield self._times("runs", "step_ms", sizes.runs, lambda count: self._step(of_runs, count))
        yield self._memory("runs", sizes.runs, of_counts) | beside_processes(sizes.runs, of_counts)
        yield self._times("batch", "losses_ms", sizes.batch, losses_of_batch)
        yield self._times("runs", "losses_ms", sizes.runs, lambda count: losses_of_runs(self._runs(of_runs, count)))

    def _runs(self, peers: int, count: int) -> list[RunState]:
        return digits_runs(peers, count, self._threads, self._folder)

    def _step(self, peers: int, count: int) -> Callable[[], object]:
        return partial(next, steps_of(self._runs(peers, count)))

    def _times(
        self, size: str, figure: str, sizes: Sequence[int], work_of: Callable[[int], Callable[[], object]]
    ) -> dict[str, object]:
        """Time the work of each size in turns."""
        clock = CLOCKS[self._clock]
        works = [work_of(one) for one in sizes]
        for work in works:
            work()
        times: list[list[float]] = [[] for _ in sizes]
        for _ in range(self._repeats):
            for work, own in zip(works, times, strict=True):
                work()  # a larger size leaves neither the caches nor the allocator's memory to a smaller one
                started = clock()
                work()
                own.append(1e3 * (clock() - started))
        settings = {"clock": self._clock, "threads": self._threads}
        return line("scaling", settings | series(size, figure, sizes, times), n=self._repeats)

    def _peaks(self, cases: Sequence[tuple[int, int]]) -> list[list[Peak]]:
        """Return the peaks of each case (N peers, K runs), each in a process of its own, two at a time."""
        repeats = min(self._repeats, PEAKS)
        measure = partial(peak_of, threads=self._threads)
        with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=1) as pool:
            found = pool.starmap(measure, [*cases] * repeats, chunksize=1)
        return [found[start :: len(cases)] for start in range(len(cases))]

    def _memory(self, size: str, sizes: Sequence[int], peaks: Sequence[Sequence[Peak]]) -> dict[str, Any]:
        figures = series(size, "peak_mib", sizes, [[peak.mib for peak in own] for own in peaks])
        mib = [case["median"] for case in figures["cases"]]
        each = {name: round((mib[-1] - mib[at]) / (sizes[-1] - sizes[at]), 2) for name, at in STARTS.items()}
        return line("scaling", {"threads": self._threads, **figures, "mib_each": each}, n=len(peaks[0]))


def digits_runs(peers: int, count: int, threads: int, folder: Path) -> list[RunState]:
    """Build runs of `digits` that differ in their seeds."""
    spec = replace(recipes.digits(), {"cohort.size": peers})
    return runs_of(spec, count, Environment(device="cpu", threads=threads), folder)


def peak_of(peers: int, count: int, threads: int) -> Peak:
    """Train an epoch of so many runs, in joint steps if there are several, and return the peak of this process."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        for _ in steps_of(digits_runs(peers, count, threads, Path(folder))):
            pass
    (files,) = (entry for entry in STATUS.read_text().splitlines() if entry.startswith("RssFile"))
    return Peak(resident_peak() / 2**20, int(files.split()[1]) / 2**10)


def beside_processes(sizes: Sequence[int], peaks: Sequence[Sequence[Peak]]) -> dict[str, object]:
    """Return the memory of a process with K runs, for each K, as a share of that of K processes with one run each.

    Args:
        sizes: numbers of runs K, 1 first.
        peaks: for each K, the peaks of processes with as many runs.
    """
    apart, sharing = [], []
    for count, own in zip(sizes, peaks, strict=True):
        mib = [peak.mib for peak in own]
        apart.append(ratios(mib, [count * one.mib for one in peaks[0]]))
        sharing.append(ratios(mib, [count * (one.mib - one.files_mib) + one.files_mib for one in peaks[0]]))
    return {"of_processes": apart, "of_processes_sharing_files": sharing}


def losses_of_batch(batch: int) -> Callable[[], object]:
    """Return the function that computes the four losses within a batch, and their gradient."""
    return LossesCase(PEERS_OF_BATCH, "cpu", batch=batch, dim=DIM_OF_BATCH).ours


def losses_of_runs(runs: Sequence[RunState]) -> Callable[[], object]:
    """Return the function that computes the losses of a batch of each run, and their gradients of the outputs."""
    batches = [next(run.batches(0)) for run in runs]
    outputs = [
        CohortOutput(*(values.detach().requires_grad_() for values in run.cohort(batch.images)))
        for run, batch in zip(runs, batches, strict=True)
    ]
    methods = [run.method for run in runs if isinstance(run.method, Supervised)]
    inputs = [values for output in outputs for values in output]

    def compute() -> object:
        losses = Supervised.losses_of_runs(methods, batches, outputs)
        return torch.autograd.grad(torch.stack([own.total for own in losses]).sum(), inputs)

    return compute


def series(size: str, figure: str, sizes: Sequence[int], found: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Return median, minimum and maximum of a figure at each size, and the exponents of the medians."""
    spreads = [{"median": statistics.median(own), "min": min(own), "max": max(own)} for own in found]
    cases = [
        {size: one} | {name: round(value, 3) for name, value in spread.items()}
        for one, spread in zip(sizes, spreads, strict=True)
    ]
    return {"size": size, "figure": figure, "cases": cases, "exponent": exponents(sizes, [c["median"] for c in cases])}


def exponents(sizes: Sequence[int], values: Sequence[float]) -> dict[str, float]:
    """Return b of value = a · size^b over all sizes, by least squares of the logarithms, and over the last two."""
    logarithms = [math.log(one) for one in sizes], [math.log(one) for one in values]
    slopes = {
        name: statistics.linear_regression(*(axis[at:] for axis in logarithms)).slope for name, at in STARTS.items()
    }
    return {name: round(slope, 2) for name, slope in slopes.items()}


def markdown(lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a table with a row for each line, and one for each share of the memory of processes."""
    yield "| figure | sizes | medians | exponent | of the last two |"
    yield "|---|---|---|---|---|"
    for one in lines:
        size, name, exponent = one["size"], one["figure"], one["exponent"]
        sizes = f"{SYMBOLS[size]} = {', '.join(str(case[size]) for case in one['cases'])}"
        medians = _listed(one["cases"], ".0f" if name == "peak_mib" else "#.3g")
        each = f" ({one['mib_each']['all']:.1f} for each more)" if "mib_each" in one else ""
        yield f"| {MEANINGS[size, name]}{each} | {sizes} | {medians} | {exponent['all']:.2f} | {exponent['last']:.2f} |"
        for share, meaning in SHARES.items():
            if share in one:
                yield f"| {meaning} | {sizes} | {_listed(one[share], '.2f')} | | |"


def _listed(spreads: Sequence[Mapping[str, float]], form: str) -> str:
    return ", ".join(format(spread["median"], form).rstrip(".") for spread in spreads)


def main() -> None:
    """Measure every series and print its line, or print the table of lines that were measured before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="at most 17: the steps of an epoch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--small", action="store_true", help="two sizes of each series, to try it")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="print the table of these lines, and end")
    options = parser.parse_args()
    if options.markdown:
        print(*markdown([json.loads(one) for one in options.markdown.read_text("utf-8").splitlines()]), sep="\n")
        return
    torch.set_num_threads(options.threads)
    sizes = SMALL if options.small else Sizes()
    settings = {name: getattr(options, name) for name in ("repeats", "threads", "clock")}
    with tempfile.TemporaryDirectory() as folder:
        for found in Scaling(sizes, **settings, folder=Path(folder)).lines():
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
