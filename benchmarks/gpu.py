"""Benchmark of whole training steps on one device, without Ray, beside the straightforward implementation.

    python -m benchmarks.gpu --out FILE [--minutes 8] [--device cuda] [--small]

Writes one JSON file, anew after each case, so that a run that is ended early leaves what it has measured. `cases` has
for each cohort the step with the defaults of a GPU (bf16, channels last) and with each of these changed: time of a
step, images per second, ratio to the straightforward step in turns, ratio to the floor, and peak memory, or the error
of a way that failed. `packs` has the gain of joint steps of K runs over the same runs one after another. What no time
was left for is in `left_out`.

The floor of a step is the longer of two times: its floating-point operations at the rate of a large matrix product, and
the bytes of its convolutions' outputs, read or written seven times, at the rate of a large copy. Both rates are
measured in the same run. `--small` has small networks and batches, to try the benchmark on one thread of a CPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import evident
from benchmarks.record import line, ratios
from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace
from mcl_ray.config.spec import DataSpec, RunSpec
from mcl_ray.contrast.bank import SlotSampler
from mcl_ray.data.arrays import dataset_of_arrays
from mcl_ray.data.dataset import Dataset
from mcl_ray.errors import UserError
from mcl_ray.methods.supervised_bank import SupervisedBank
from mcl_ray.training.costs import cost_of
from mcl_ray.training.pack import can_share_steps, steps_of
from mcl_ray.training.run_state import RunState

WINDOWS, STEPS = 5, 4
"""Windows of each way, in turns, and steps of a window; its end is the only synchronisation."""
WARM_STEPS = 3
PASSES = 7
"""Times that a step reads or writes an output of a convolution if everything else is fused into the convolutions."""
CLASSES = 100
SWITCHES: dict[str, dict[str, object]] = {
    "default": {},
    "fp32": {"compute.precision": "fp32"},
    "contiguous": {"compute.channels_last": False},
    "blocks": {"compute.compile": "blocks"},
    "graphs": {"compute.compile": "graphs"},
}
"""Way of a step → the fields of its run that differ from the defaults of a GPU."""
OF_CUDA = ("graphs",)
"""Ways that a CPU does not have."""
EVIDENT: dict[str, object] = {"compute.precision": "fp32", "compute.channels_last": False}
Steps = Iterator[object]


@dataclass(frozen=True)
class Case:
    """A cohort, its batch and the side of its images in pixels."""

    networks: str
    peers: int
    recipe: str = "cifar"
    batch: int = 128
    side: int = 32

    def spec(self, switch: str, seed: int = 0) -> RunSpec:
        """Return the run on images in memory, with the fields of a switch."""
        cohort = {"cohort.networks": self.networks, "cohort.size": self.peers, "seed": seed}
        data = {"data": DataSpec(), "batch.size": self.batch, "compute.precision": "bf16"}
        changed = EVIDENT if switch == "evident" else SWITCHES[switch]
        return replace(recipes.RECIPES[self.recipe](), cohort | data | changed)

    def dataset(self) -> Dataset:
        """Return noise, enough for the steps of one epoch; two images of a class are in each batch, if not more."""
        rng, count = np.random.default_rng(0), self.batch * (2 * WARM_STEPS + WINDOWS * STEPS + 1)
        labels = np.arange(count).astype(np.int64) % min(CLASSES, self.batch // 2)
        images = rng.integers(0, 256, (count, 3, self.side, self.side), dtype=np.uint8)
        return dataset_of_arrays(train=(images, labels), test=(images[: self.batch], labels[: self.batch]))


CASES = {
    "resnet32 ×2": Case("resnet32", 2),
    "resnet32 ×4": Case("resnet32", 4),
    "wrn_16_2 ×4": Case("wrn_16_2", 4),
    "shufflenetv2_1x ×2": Case("shufflenetv2_1x", 2),
    "resnet18 ×2, memory bank": Case("resnet18", 2, recipe="imagenet", batch=256, side=224),
}
SMALL_CASES = {
    "resnet8 ×2": Case("resnet8", 2, batch=16),
    "resnet18 ×2, memory bank": Case("resnet18", 2, recipe="imagenet", batch=8),
}
PACKED, SMALL_PACKED = Case("resnet32", 2), Case("resnet8", 2, batch=16)
RUNS, SMALL_RUNS = (1, 2, 4, 8, 16, 32), (1, 2)
"""Numbers of runs that share their steps."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Rates of a device: floating-point operations per second for each precision, and bytes per second."""

    operations: Mapping[str, float]
    bytes: float

    @classmethod
    def of(cls, device: torch.device) -> Limits:
        """Measure the rates with large tensors; with smaller ones on a CPU."""
        side = 8192 if device.type == "cuda" else 1024
        operations = {}
        for precision, dtype in {"fp32": torch.float32, "bf16": torch.bfloat16}.items():
            matrix = torch.randn(side, side, device=device, dtype=dtype)
            operations[precision] = 2 * side**3 / _fastest(partial(torch.matmul, matrix, matrix), device)
        source = torch.empty(2**28 if device.type == "cuda" else 2**24, device=device)
        target = torch.empty_like(source)
        moved = 2 * source.numel() * source.element_size()
        return cls(operations=operations, bytes=moved / _fastest(lambda: target.copy_(source), device))

    def floor_s(self, run: RunState) -> float:
        """Return the time below which no step of a run can be."""
        spec = run.spec
        cost = cost_of(spec, run.num_classes, run.image_shape)
        operations = 3 * 2 * cost.multiply_adds * spec.batch.size
        width = 2 if spec.compute.precision == "bf16" else 4
        moved = PASSES * width * _outputs_of_convolutions(run) * spec.batch.size
        return max(operations / self.operations[spec.compute.precision], moved / self.bytes)


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    """Return the shortest time of five, in seconds, after one that does not count."""
    return min(_seconds([iter(work, work)], device, 1) for _ in range(6))


def _outputs_of_convolutions(run: RunState) -> int:
    """Return the number of values that the cohort's convolutions put out for one image."""
    counts: list[int] = []
    cohort = run.cohort.copied().eval()  # a copy is not compiled
    for layer in cohort.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _layer, _inputs, output: counts.append(output[0].numel()))
    with torch.no_grad():
        cohort(torch.zeros(1, *run.image_shape, device=run.device))
    return sum(counts)


def _seconds(steps: Sequence[Steps], device: torch.device, count: int) -> float:
    """Return the time of so many steps of each iterator, one iterator after another."""
    started = time.perf_counter()
    for own in steps:
        for _ in range(count):
            next(own)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def evident_steps(run: RunState) -> Steps:
    """Yield after each straightforward step of a run's cohort, on one prepared batch."""
    spec, cohort = run.spec, run.cohort
    optimizer = torch.optim.SGD(cohort.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    batch = next(run.batches(0))
    if not isinstance(run.method, SupervisedBank):
        while True:
            yield evident.step(cohort, optimizer, batch.images, batch.labels, spec.losses)
    sampler = SlotSampler(run.train.labels, positives=spec.bank.positives, negatives=spec.bank.negatives)
    generator = torch.Generator(run.device).manual_seed(0)
    while True:
        yield evident.bank_step(cohort, optimizer, run.method.bank, sampler, batch, spec.losses, generator)


@dataclass
class Bench:
    """The settings of a measurement, and what it has found."""

    device: torch.device
    limits: Limits
    folder: Path

    @property
    def switches(self) -> list[str]:
        """Names of the ways that the device has."""
        return [switch for switch in SWITCHES if self.device.type == "cuda" or switch not in OF_CUDA]

    def runs(self, case: Case, switch: str, seeds: int = 1) -> list[RunState]:
        """Build runs of a case that differ in their seeds."""
        environment, dataset = Environment(device=str(self.device)), case.dataset()
        return [RunState(case.spec(switch, seed), dataset, environment, self.folder) for seed in range(seeds)]

    def case(self, case: Case) -> dict[str, object]:
        """Compare the step of a case, with each switch, with the straightforward one."""
        (plain,) = self.runs(case, "evident")
        found: dict[str, Any] = {"evident": {"peak_mib": self._peak_mib(evident_steps(plain))}}
        ways, floors = {"evident": [evident_steps(plain)]}, {}
        for switch in self.switches:
            try:
                (run,) = self.runs(case, switch)
                found[switch] = {"peak_mib": self._peak_mib(steps_of([run]))}
                steps = steps_of(self.runs(case, switch))
                _seconds([steps], self.device, WARM_STEPS)
            except (RuntimeError, UserError) as error:  # a compiler may be missing: the other ways are still measured
                found[switch] = {"error": f"{type(error).__name__}: {error}"}
                continue
            floors[switch] = self.limits.floor_s(run)
            ways[switch] = [steps]
        times = self._in_turns(ways)
        for way, own in times.items():
            step = statistics.median(own) / STEPS
            found[way] |= {"step_ms": round(1e3 * step, 3), "images_per_s": round(case.batch / step, 1)}
        for switch, floor in floors.items():
            found[switch]["ratio_to_evident"] = ratios(times["evident"], times[switch])
            found[switch]["ratio_to_floor"] = round(statistics.median(times[switch]) / STEPS / floor, 2)
        return found

    def pack(self, case: Case, count: int) -> dict[str, object]:
        """Compare joint steps of so many runs with the same runs one after another."""
        alone, joint = (self.runs(case, "default", count) for _ in range(2))
        if not can_share_steps(joint[0]):
            return {"runs": count, "gain": None}
        times = self._in_turns({"alone": [steps_of([run]) for run in alone], "joint": [steps_of(joint)]})
        step = statistics.median(times["joint"]) / STEPS
        return {"runs": count, "gain": ratios(times["alone"], times["joint"]), "joint_ms": round(1e3 * step, 3)}

    def _in_turns(self, ways: Mapping[str, Sequence[Steps]]) -> dict[str, list[float]]:
        """Return the times of the windows of each way, in seconds."""
        for steps in ways.values():
            _seconds(steps, self.device, WARM_STEPS)
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(WINDOWS):
            for way, steps in ways.items():
                times[way].append(_seconds(steps, self.device, STEPS))
        return times

    def _peak_mib(self, steps: Steps) -> float | None:
        """Return the most memory that two steps have at a time, beyond what there was; None on a CPU."""
        if self.device.type != "cuda":
            return None
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        _seconds([steps], self.device, 2)
        return round((torch.cuda.max_memory_allocated(self.device) - before) / 2**20, 1)


def measure(options: argparse.Namespace) -> None:
    """Measure what there is time for, and write the file anew after each case."""
    device = torch.device(options.device)
    cases, packed, counts = (SMALL_CASES, SMALL_PACKED, SMALL_RUNS) if options.small else (CASES, PACKED, RUNS)
    if device.type == "cpu":
        torch.set_num_threads(1)
    limits, ends = Limits.of(device), time.monotonic() + 60 * options.minutes
    found: dict[str, Any] = {"limits": dataclasses.asdict(limits), "cases": {}, "packs": {}, "left_out": []}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(device, limits, Path(folder))
        tasks = [(name, partial(bench.case, case)) for name, case in cases.items()]
        tasks += [(f"{count} × {packed.networks}", partial(bench.pack, packed, count)) for count in counts]
        for name, task in tasks:
            if time.monotonic() > ends:
                found["left_out"].append(name)
            else:
                found["cases" if name in cases else "packs"][name] = task()
            options.out.write_text(json.dumps(line("gpu", found, n=WINDOWS, device=device.type), indent=1) + "\n")


def main() -> None:
    """Measure the device, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8, help="no case begins later")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true")
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
