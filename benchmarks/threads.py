"""Benchmark of the threads of one operation: a training step with one thread beside all that torch chooses, in turns.

    python -m benchmarks.threads [--repeats 15]

Prints one JSON line per case, with the multiply-adds of a layer for a batch, on average, and the time of a step with
one thread divided by that with torch's choice: below 1, one thread is faster. `mcl_ray.training.threads` chooses by the
former. Run it with nothing else on the machine, and without OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.pack import runs_of, seconds
from benchmarks.record import print_line, ratios
from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace
from mcl_ray.config.spec import RunSpec
from mcl_ray.training.pack import steps_of
from mcl_ray.training.threads import work_of_layer

CASES = (
    ("digits", "resnet8", 2, 40),
    ("digits", "resnet20", 4, 120),
    ("digits", "resnet8", 2, 240),
    ("cifar", "resnet8", 2, 40),
    ("cifar", "resnet20", 2, 32),
    ("cifar", "resnet8", 2, 128),
    ("cifar", "resnet32", 2, 128),
)
"""Recipe, network, peers and images of a batch, ordered by the work of a layer."""
CLASSES = {"digits": 10, "cifar": 100}


def spec_of(recipe: str, network: str, peers: int, batch: int) -> RunSpec:
    """Return the run of a case."""
    base = recipes.RECIPES[recipe]()
    per_class = max(base.batch.per_class, batch // CLASSES[recipe])
    cohort = {"cohort.networks": network, "cohort.size": peers}
    return replace(base, cohort | {"batch.size": batch, "batch.per_class": per_class})


def measure(spec: RunSpec, threads: int, repeats: int) -> dict[str, object]:
    """Time steps with one thread and with `threads`, in turns, after one step that does not count."""
    with tempfile.TemporaryDirectory() as folder:
        (run,) = runs_of(spec, 1, Environment(device="cpu"), Path(folder))
        steps = itertools.chain.from_iterable(steps_of([run]) for _ in itertools.count())
        times: dict[int, list[float]] = {1: [], threads: []}
        seconds([steps], run.device, time.perf_counter)
        for _ in range(repeats):
            for count, found in times.items():
                torch.set_num_threads(count)
                found.append(seconds([steps], run.device, time.perf_counter))
        work = work_of_layer(spec, run.num_classes, run.image_shape)
    one, all_of_them = times.values()
    return {
        "work_of_layer": round(work / 1e6, 1),
        "one_thread_ms": round(1e3 * statistics.median(one), 1),
        "one_thread_over_all": ratios(one, all_of_them),
    }


def main() -> None:
    """Measure every case, and print one JSON line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    threads = torch.get_num_threads()
    for case in CASES:
        found = measure(spec_of(*case), threads, options.repeats)
        print_line("threads", {"case": " ".join(map(str, case)), "threads": threads, **found}, n=options.repeats)


if __name__ == "__main__":
    if "OMP_WAIT_POLICY" not in os.environ:  # which is read before torch is loaded; the commands set it, too
        os.execve(sys.executable, [*sys.orig_argv], os.environ | {"OMP_WAIT_POLICY": "PASSIVE"})  # noqa: S606
    main()
