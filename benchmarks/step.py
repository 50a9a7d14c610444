"""Benchmark of a training step in images per second, against the straightforward implementation, in turns.

    python -m benchmarks.step [--repeats 7] [--threads 2]

Prints one JSON line per cohort. This project's step includes augmentation and meters; the straightforward one gets
prepared images.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks import evident
from benchmarks.record import print_line, ratios
from mcl_ray.cohort import build_cohort
from mcl_ray.config.spec import CohortSpec, LossSpec
from mcl_ray.data.augment import Augment, epoch_generator
from mcl_ray.data.dataset import ImageSet
from mcl_ray.distributed import BatchShards
from mcl_ray.methods.method import Batch
from mcl_ray.methods.supervised import supervised_losses
from mcl_ray.training.image_loader import DeviceImages
from mcl_ray.training.metrics import StepMeter
from mcl_ray.training.recorded_run import has_fast_bf16

BATCH, CLASSES = 128, 100
COHORTS = {
    "resnet32 ×2": CohortSpec(size=2, networks=("resnet32",)),
    "wrn_16_2 ×4": CohortSpec(size=4, networks=("wrn_16_2",)),
}
WEIGHTS = LossSpec()
Step = Callable[[], object]


def synthetic_images() -> ImageSet:
    """Return one batch of noise with two images of each of 64 classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, 3, 32, 32), dtype=np.uint8)
    return ImageSet(images=images, labels=np.repeat(np.arange(BATCH // 2), 2).astype(np.int64))


def evident_step(cohort_spec: CohortSpec) -> Step:
    """Return the straightforward step: float32, contiguous, peers one after another, losses pair by pair."""
    torch.manual_seed(0)
    cohort = build_cohort(cohort_spec, CLASSES)
    optimizer = torch.optim.SGD(cohort.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    data = synthetic_images()
    images = torch.from_numpy(data.images).float().div_(255)
    labels = torch.from_numpy(data.labels)
    return lambda: evident.step(cohort, optimizer, images, labels, WEIGHTS)


def our_step(cohort_spec: CohortSpec, *, bf16: bool) -> Step:
    """Return the step of the training loop, channels last."""
    torch.manual_seed(0)
    cohort = build_cohort(cohort_spec, CLASSES).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(cohort.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)
    augment = Augment((0.5,) * 3, (0.25,) * 3, crop_padding=4, flip=True, channels_last=True)
    device = torch.device("cpu")
    train, generator = DeviceImages(synthetic_images(), augment, device), epoch_generator(0, 0, device)
    indices, meter = torch.arange(BATCH), StepMeter(1_000_000, device)

    def step() -> None:
        batch = Batch(train.augmented(indices, generator, BatchShards((len(indices),))), train.labels[indices], indices)
        losses = supervised_losses(cohort, batch, WEIGHTS, bf16=bf16)
        optimizer.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        meter.record(losses.terms | {"loss": losses.total})

    return step


def seconds(step: Step) -> float:
    """Return the wall time of one step."""
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def compare(cohort: CohortSpec, repeats: int) -> dict[str, object]:
    """Time the variants in turns, so that a change in the speed of the machine affects all of them."""
    steps = {
        "evident": evident_step(cohort),
        "fp32": our_step(cohort, bf16=False),
        "bf16": our_step(cohort, bf16=True),
    }
    for step in steps.values():
        step()
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            times[name].append(seconds(step))
    return {
        "images_per_s": {name: round(BATCH / statistics.median(own), 1) for name, own in times.items()},
        "ratio_to_evident": {name: ratios(times["evident"], own) for name, own in times.items() if name != "evident"},
    }


def main() -> None:
    """Measure every cohort, and print one JSON line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    settings: dict[str, object] = {"threads": arguments.threads, "bf16_instructions": has_fast_bf16()}
    for name, cohort in COHORTS.items():
        print_line("step", {"cohort": name} | settings | compare(cohort, arguments.repeats), n=arguments.repeats)


if __name__ == "__main__":
    main()
