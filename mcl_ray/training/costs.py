"""Cost and memory of a spec's cohort, computed from shapes alone by `models.cost`."""

from __future__ import annotations

from typing import NamedTuple

from mcl_ray.config.spec import RunSpec
from mcl_ray.methods.registry import method_class
from mcl_ray.models.cost import activation_bytes, multiply_adds, parameter_count, shapes_alone, training_bytes
from mcl_ray.training.build import cohort_of


class Cost(NamedTuple):
    """Cost of a cohort, heads included."""

    parameters: int
    """Number of parameters."""
    multiply_adds: int
    """Multiply-adds of one forward pass of one image through all peers."""


class Memory(NamedTuple):
    """Memory of a run during training, in bytes, without that of the framework itself."""

    state: int
    """Bytes of the cohort's weights, their gradients and momentum, and the state of the method."""
    activations: int
    """Bytes that a step stores for its backward pass, in float32."""


def memory_of(
    spec: RunSpec, num_classes: int, image_shape: tuple[int, int, int], batch_size: int, train_images: int
) -> Memory:
    """Compute the memory of a run.

    Args:
        spec: the run.
        num_classes: C.
        image_shape: channels, height and width in pixels.
        batch_size: number of images of this worker in a batch.
        train_images: number of training images.
    """
    with shapes_alone():
        cohort = cohort_of(spec, num_classes, image_shape[0])
    state = training_bytes(cohort) + method_state_bytes(spec, parameter_count(cohort), train_images)
    return Memory(state, activation_bytes(cohort, image_shape, batch_size))


def trained_parameters(spec: RunSpec, num_classes: int, image_shape: tuple[int, int, int]) -> int:
    """Return the number of parameters that a run trains: of `linear`, those of the classifiers alone."""
    with shapes_alone():
        cohort = cohort_of(spec, num_classes, image_shape[0])
    return sum(parameter.numel() for parameter in cohort.parameters() if parameter.requires_grad)


def method_state_bytes(spec: RunSpec, parameters: int, train_images: int) -> int:
    """Return the bytes of a method's state in float32: key encoders and queues, or memory banks.

    Args:
        spec: the run.
        parameters: number of parameters of its cohort.
        train_images: number of training images.
    """
    return method_class(spec.method).state_bytes(spec, parameters=parameters, train_images=train_images)


def cost_of(spec: RunSpec, num_classes: int, image_shape: tuple[int, int, int]) -> Cost:
    """Compute the cost of a spec's cohort for C classes and images of a shape (channels, height, width)."""
    with shapes_alone():
        cohort = cohort_of(spec, num_classes, image_shape[0])
    return Cost(parameter_count(cohort), multiply_adds(cohort, image_shape))
