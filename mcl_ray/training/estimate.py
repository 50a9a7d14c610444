"""Estimate what a run would take: its steps, parameters, multiply-adds, memory and disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mcl_ray.config.environment import Environment
from mcl_ray.config.registry import DATASETS
from mcl_ray.config.spec import DataSpec, RunSpec
from mcl_ray.data import cifar
from mcl_ray.data.images import list_images
from mcl_ray.data.sampling import Ints
from mcl_ray.data.source import check_counts, load_dataset
from mcl_ray.object_store import Uri

BYTES_PER_PARAMETER = 8
"""A float32 weight and its momentum."""


class Images(NamedTuple):
    """What a plan asks of a data set."""

    told: str
    """Where the counts come from."""
    counts: Ints
    """Training images of each class."""
    shape: tuple[int, int, int]
    """Of an image."""


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run would take."""

    data: str
    """Where the counts come from."""
    train_images: int
    classes: int
    steps_per_epoch: int
    steps: int
    parameters: int
    multiply_adds: int
    """Per image, one forward pass through the whole cohort, heads included."""
    disk_bytes: int
    """Of the checkpoints that stay."""
    state_bytes: int
    """Memory of the weights, gradients, momentum, and what the method remembers."""
    activation_bytes: int
    """Memory of what a step keeps for its backward pass, on one worker, in float32."""


def plan_run(
    spec: RunSpec, environment: Environment, workers: tuple[int, int] = (1, 1), images: Images | None = None
) -> RunPlan:
    """Work a run out from the data set itself where it is there, else from its published counts.

    Args:
        spec: The run.
        environment: Where the data set is.
        workers: The fewest, who have the largest part of a batch each, and the most, who all want a part.
        images: What `images_of` says of the run's, for a caller who asked already.

    Raises:
        SpecError: the sampler cannot serve the batches.
        DataError: the data set is there, but damaged or not what its checksum says.
        CheckpointError: what is to be frozen cannot be read, or is other than the spec says.
    """
    told, counts, shape = images or images_of(spec.data, environment)
    check_counts(counts, spec, workers[1])
    num_images, classes = int(counts.sum()), len(counts)
    steps = num_images // spec.batch.size
    from mcl_ray.training import (
        build,  # loads torch, which a bad batch is told without
        costs,
    )

    if environment.backbone is not None:
        build.cohort_of(spec, classes, shape[0], environment.backbone)
    cost = costs.cost_of(spec, classes, shape)
    memory = costs.memory_of(spec, classes, shape, -(-spec.batch.size // workers[0]), num_images)
    remembered = costs.remembered_bytes(spec, cost.parameters, num_images)
    return RunPlan(
        data=f"{spec.data.source} ({told})",
        train_images=num_images,
        classes=classes,
        steps_per_epoch=steps,
        steps=steps * spec.schedule.epochs,
        parameters=cost.parameters,
        multiply_adds=cost.multiply_adds,
        disk_bytes=environment.checkpoints_kept * (cost.parameters * BYTES_PER_PARAMETER + remembered),
        state_bytes=memory.state,
        activation_bytes=memory.activations,
    )


def images_of(data: DataSpec, environment: Environment) -> Images:
    """The training images, as they are here or as published.

    Raises:
        DataError: the data set is there, but damaged or not what its checksum says.
    """
    entry, here = DATASETS[data.source], environment.data
    if data.source == "digits" or (data.source == "cifar" and _holds_cifar(here)):
        dataset = load_dataset(data, environment)
        counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
        return Images("as it is here", counts, dataset.image_shape)
    shape = (3, data.image_size, data.image_size) if data.is_encoded else entry.image_shape
    if data.is_encoded and not isinstance(here, Uri) and here != Environment.data and here.exists():
        return Images("as it is here", list_images(data, here).train_counts(data.validation_fraction), shape)
    absent = "not fetched from" if isinstance(here, Uri) else "not at"
    num_images = round(entry.num_train * (1 - data.validation_fraction))
    counts = np.full(entry.num_classes, num_images // entry.num_classes)
    counts[: num_images - int(counts.sum())] += 1
    return Images(f"{absent} {here}: counts as published", counts, shape)


def _holds_cifar(data: Path | Uri) -> bool:
    """A dry run fetches nothing from a store."""
    return not isinstance(data, Uri) and cifar.is_present(data)
