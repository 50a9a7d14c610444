"""Speed of training on this machine, from a few steps on random images, for the wall time of a dry run."""

from __future__ import annotations

import os
import time

import torch
from torch import Tensor

from mcl_ray.config.methods import FORWARD_AND_BACKWARD
from mcl_ray.config.spec import RunSpec
from mcl_ray.methods.method import outputs
from mcl_ray.training.build import choose_device, cohort_of
from mcl_ray.training.estimate import RunEstimate
from mcl_ray.training.threads import num_threads

TIMED_MULTIPLY_ADDS = 4e9
"""Multiply-adds of one timed step, about: it takes tenths of a second on one core."""
TIMED_STEPS = 2


def multiply_adds_per_second(spec: RunSpec, estimate: RunEstimate, device: str, threads: int | None) -> float:
    """Return the multiply-adds per second of forward and backward passes of a run's cohort, by this process.

    Losses, the optimiser, reading and scoring are not timed.

    Args:
        spec: the run.
        estimate: its estimate.
        device: `auto`, `cpu` or `cuda`.
        threads: CPU threads inside one operation; None: as many as a run has then.
    """
    chosen, before = choose_device(device), torch.get_num_threads()
    passes = min(FORWARD_AND_BACKWARD, spec.method_entry.passes)
    affordable = TIMED_MULTIPLY_ADDS / (passes * max(1, estimate.multiply_adds))
    size = int(min(spec.batch.size, max(2.0, affordable)))
    torch.set_num_threads(threads or num_threads(spec, estimate.classes, estimate.image_shape))
    try:
        seconds = _seconds_per_step(spec, estimate, size, chosen)
    finally:
        torch.set_num_threads(before)
    return passes * size * estimate.multiply_adds / seconds


def runs_at_once(device: str, cpus_per_worker: int) -> int:
    """Return how many runs of one worker train side by side on this machine."""
    chosen = choose_device(device)
    if chosen.type == "cuda":
        return max(1, torch.cuda.device_count())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // cpus_per_worker)


def _seconds_per_step(spec: RunSpec, estimate: RunEstimate, size: int, device: torch.device) -> float:
    """Return the time of one step, the least of a few, after one that is not counted."""
    layout = torch.channels_last if spec.compute.channels_last else torch.contiguous_format
    cohort = cohort_of(spec, estimate.classes, estimate.image_shape[0]).to(device).to(memory_format=layout)
    images = torch.rand(size, *estimate.image_shape, device=device).to(memory_format=layout)
    found = []
    for _ in range(1 + TIMED_STEPS):
        started = time.perf_counter()
        _step(spec, cohort, images)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - started)
    return min(found[1:])


def _step(spec: RunSpec, cohort: torch.nn.Module, images: Tensor) -> None:
    output = outputs(cohort, images, bf16=spec.compute.precision == "bf16")
    parts = [part.float().square().mean() for part in (output.logits, output.embeddings) if part.numel()]
    loss = torch.stack(parts).sum()
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
