"""Benchmark of compiled blocks: the training steps of a run with and without torch.compile, in turns.

    python -m benchmarks.compiled [--repeats 15] [--compile blocks graphs] [--threads 1] [--device cpu]
        [--clock cpu] [--cases "digits resnet8 fp32"]

Prints one JSON line per case and value of `compute.compile`: the time of a step with compiled blocks divided by that of
one without, below 1 if compiled blocks are faster, and the wall time of the first step, which compiles them or loads
them from the folder of torch, `TORCHINDUCTOR_CACHE_DIR`. The cases are those of `benchmarks.pack`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.pack import CASES, CLOCKS, runs_of, seconds, spec_of
from benchmarks.record import print_line, ratios
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace
from mcl_ray.config.spec import RunSpec
from mcl_ray.training.pack import steps_of

WARM_STEPS = 3
"""Steps that do not count; the first one compiles, and CUDA graphs are recorded in the second."""


def measure(
    spec: RunSpec, value: str, repeats: int, environment: Environment, clock: Callable[[], float]
) -> dict[str, object]:
    """Time steps with a value of `compute.compile` and with `off`, in turns, after a few of each."""
    with tempfile.TemporaryDirectory() as folder:
        specs = {"off": spec, value: replace(spec, {"compute.compile": value})}
        runs = {name: runs_of(own, 1, environment, Path(folder)) for name, own in specs.items()}
        device, times = runs["off"][0].device, {name: list[float]() for name in runs}
        steps = {name: steps_of(own) for name, own in runs.items()}
        first = {name: seconds([own], device, time.perf_counter) for name, own in steps.items()}
        for _ in range(WARM_STEPS - 1 + repeats):
            for name, own in steps.items():
                times[name].append(seconds([own], device, clock))
    off, compiled = (found[WARM_STEPS - 1 :] for found in times.values())
    return {
        "compile": value,
        "first_step_s": round(first[value], 2),
        "off_ms": round(1e3 * statistics.median(off), 2),
        "compiled_ms": round(1e3 * statistics.median(compiled), 2),
        "compiled_over_off": ratios(compiled, off),
    }


def main() -> None:
    """Measure every case, and print one JSON line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="at most 23: the steps of an epoch")
    parser.add_argument("--compile", nargs="+", choices=["blocks", "graphs"], default=["blocks"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    environment = Environment(device=options.device, threads=options.threads)
    for name in options.cases:
        for value in options.compile:
            figures = measure(spec_of(*CASES[name]), value, options.repeats, environment, CLOCKS[options.clock])
            settings = {"case": name, "threads": options.threads, "clock": options.clock}
            print_line("compiled", settings | figures, n=options.repeats, device=options.device)


if __name__ == "__main__":
    main()
