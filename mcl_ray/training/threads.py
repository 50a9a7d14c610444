"""The number of CPU threads inside one operation of a run, where neither user nor Ray has given one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from mcl_ray.config.environment import Environment
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.dataset import Dataset
from mcl_ray.models.cost import multiply_adds, shapes_alone
from mcl_ray.training.build import choose_device, cohort_of

WORTH_SHARING = 50e6
"""Multiply-adds of an operation from which two threads are faster than one, about: `benchmarks.threads`."""
GIVEN_BY = "OMP_NUM_THREADS"
"""Environment variable by which users, torchrun and schedulers give a number."""


@contextmanager
def suitable_threads(spec: RunSpec, dataset: Dataset, environment: Environment) -> Iterator[None]:
    """Use a number of threads that suits a run inside this context, unless one is given.

    The number follows from the spec alone, and not from a measurement, as the last bits of gradients depend on it.
    """
    before = torch.get_num_threads()
    if not environment.threads and choose_device(environment.device).type == "cpu":
        torch.set_num_threads(num_threads(spec, dataset.num_classes, dataset.image_shape))
    try:
        yield
    finally:
        if not environment.threads:
            torch.set_num_threads(before)


def num_threads(spec: RunSpec, num_classes: int, image_shape: tuple[int, int, int]) -> int:
    """Return the number of threads for a run: torch's own choice, or one if its operations are too small to share.

    Threads wait for each other after each operation, which takes longer than the work of a small one.

    Args:
        spec: The run.
        num_classes: C.
        image_shape: Channels, height and width in pixels.
    """
    chosen = torch.get_num_threads()
    if chosen == 1 or GIVEN_BY in os.environ:
        return chosen
    return chosen if work_of_layer(spec, num_classes, image_shape) >= WORTH_SHARING else 1


def work_of_layer(spec: RunSpec, num_classes: int, image_shape: tuple[int, int, int]) -> float:
    """Return the multiply-adds of a convolution or linear layer for a batch, on average over those of the cohort."""
    with shapes_alone():
        cohort = cohort_of(spec, num_classes, image_shape[0])
    layers = sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in cohort.modules())
    return spec.batch.size * multiply_adds(cohort, image_shape) / max(1, layers)
