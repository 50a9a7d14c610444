"""Benchmark of joint steps: K runs that share their steps, against the same runs one after another, in turns.

With `--runs 1`, the joint steps of a run's own peers (`compute.peers=stacked`), against its peers one after another.

    python -m benchmarks.pack [--repeats 15] [--runs 2 4 8] [--threads 1] [--device cpu]
        [--clock cpu] [--cases "digits resnet8 fp32"]

Prints one JSON line per case, each with a gain for every K: the time of one step of all K runs one after another,
divided by that of their joint step. `digits` has images of 8 × 8 pixels and batches of 40, `cifar` synthetic ones of
32 × 32 and batches of 128; every cohort has two peers. `--clock cpu` counts the CPU time of one thread, for a machine
with other work.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.record import print_line, ratios
from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.arrays import dataset_of_arrays
from mcl_ray.data.dataset import Dataset
from mcl_ray.data.source import dataset_for
from mcl_ray.training.pack import steps_of
from mcl_ray.training.run_state import RunState

CASES = {
    "digits resnet8 fp32": ("digits", "resnet8", "fp32"),
    "digits resnet8 bf16": ("digits", "resnet8", "bf16"),
    "digits resnet20 fp32": ("digits", "resnet20", "fp32"),
    "cifar resnet32 fp32": ("cifar", "resnet32", "fp32"),
    "cifar resnet32 bf16": ("cifar", "resnet32", "bf16"),
}
CLASSES, PER_CLASS = 100, 40
CLOCKS = {"wall": time.perf_counter, "cpu": time.thread_time}


def synthetic() -> Dataset:
    """Return noise in the shape of CIFAR-100's images, enough for an epoch of 31 steps."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), PER_CLASS).astype(np.int64)
    images = rng.integers(0, 256, (len(labels), 3, 32, 32), dtype=np.uint8)
    return dataset_of_arrays(train=(images, labels), test=(images, labels))


def spec_of(recipe: str, network: str, precision: str) -> RunSpec:
    """Return the run of a case, with two peers."""
    base = recipes.digits() if recipe == "digits" else recipes.cifar()
    return replace(base, {"cohort.networks": network, "cohort.size": 2, "compute.precision": precision})


def runs_of(spec: RunSpec, count: int, environment: Environment, folder: Path) -> list[RunState]:
    """Build runs that differ in their seeds."""
    dataset = dataset_for(spec, environment) if spec.data.source == "digits" else synthetic()
    return [RunState(replace(spec, {"seed": seed}), dataset, environment, folder) for seed in range(count)]


def seconds(steps: Sequence[Iterator[None]], device: torch.device, clock: Callable[[], float]) -> float:
    """Return the time of one step of each iterator, one after another."""
    started = clock()
    for own in steps:
        next(own)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - started


def measure(
    spec: RunSpec, count: int, repeats: int, environment: Environment, clock: Callable[[], float]
) -> dict[str, object]:
    """Time joint steps of so many runs and their steps one after another, in turns, after one step of each.

    For one run: joint steps of its peers, and those of its peers one after another.
    """
    with tempfile.TemporaryDirectory() as folder:
        stacked = replace(spec, {"compute.peers": "stacked"})
        alone, joint = (runs_of(own, count, environment, Path(folder)) for own in (spec, stacked))
        ways = {"alone": [steps_of([run]) for run in alone], "joint": [steps_of(joint)]}
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(repeats + 1):
            for way, steps in ways.items():
                times[way].append(seconds(steps, alone[0].device, clock))
    gain = ratios(times["alone"][1:], times["joint"][1:])
    return {"runs": count, "gain": gain, "joint_ms": round(1e3 * statistics.median(times["joint"][1:]), 2)}


def main() -> None:
    """Measure every case, and print one JSON line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="at most 25: the steps of an epoch")
    parser.add_argument("--runs", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    environment = Environment(device=options.device, threads=options.threads)
    clock = CLOCKS[options.clock]
    for name in options.cases:
        spec = spec_of(*CASES[name])
        measured = [measure(spec, count, options.repeats, environment, clock) for count in options.runs]
        figures = {"case": name, "threads": options.threads, "clock": options.clock, "cases": measured}
        print_line("pack", figures, n=options.repeats, device=options.device)


if __name__ == "__main__":
    main()
