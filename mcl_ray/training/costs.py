"""What the cohort of a spec costs, from shapes alone. How shapes are counted is `models.cost`."""

from __future__ import annotations

from typing import NamedTuple

import torch

from mcl_ray.config.spec import RunSpec
from mcl_ray.models.cost import activation_bytes, multiply_adds, parameter_count, training_bytes
from mcl_ray.training.build import cohort_of, remembered_images

FLOAT_BYTES = 4


class Cost(NamedTuple):
    """What a cohort costs, heads included."""

    parameters: int
    multiply_adds: int
    """Of one image, one forward pass through all peers."""


class Memory(NamedTuple):
    """What a run holds while it trains, in bytes; the framework's own needs come on top."""

    state: int
    """Weights of the cohort, gradients and momentum of what learns, and what its method remembers."""
    activations: int
    """What a step keeps from forward to backward, in float32."""


def memory_of(
    spec: RunSpec, num_classes: int, image_shape: tuple[int, int, int], batch_size: int, train_images: int
) -> Memory:
    """The memory that a spec's cohort takes for so many images a step."""
    with torch.device("meta"):
        cohort = cohort_of(spec, num_classes, image_shape[0])
    state = training_bytes(cohort) + remembered_bytes(spec, parameter_count(cohort), train_images)
    return Memory(state, activation_bytes(cohort, image_shape, batch_size))


def remembered_bytes(spec: RunSpec, parameters: int, train_images: int) -> int:
    """Bytes of what a method remembers beside its cohort of so many parameters, in float32."""
    width = spec.cohort.size * spec.cohort.embedding_dim
    if spec.method == "moco":
        return FLOAT_BYTES * (width * spec.queue.keys + parameters)
    return FLOAT_BYTES * width * remembered_images(spec, train_images)


def cost_of(spec: RunSpec, num_classes: int, image_shape: tuple[int, int, int]) -> Cost:
    """The cost of a spec's cohort."""
    with torch.device("meta"):
        cohort = cohort_of(spec, num_classes, image_shape[0])
    return Cost(parameter_count(cohort), multiply_adds(cohort, image_shape))
