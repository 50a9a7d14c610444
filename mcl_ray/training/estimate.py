"""Estimate of a run's size without training: steps, parameters, multiply-adds, memory and disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mcl_ray.config.environment import Environment
from mcl_ray.config.parallelism import most_batch_parts
from mcl_ray.config.registry import DATASETS
from mcl_ray.config.spec import DataSpec, RunSpec
from mcl_ray.data import cifar
from mcl_ray.data.images import list_images
from mcl_ray.data.sampling import Ints
from mcl_ray.data.source import check_counts, load_dataset
from mcl_ray.data.torchvision_datasets import TORCHVISION, is_downloaded
from mcl_ray.errors import DataError
from mcl_ray.object_store import Uri

if TYPE_CHECKING:
    from mcl_ray.training.worker_split import SplitCost


class Images(NamedTuple):
    """Numbers of training images and their shape."""

    source: str
    """Origin of the numbers, in words."""
    counts: Ints
    """[C], number of training images of each class."""
    shape: tuple[int, int, int]
    """Channels, height and width in pixels."""
    left_out: Mapping[str, int] = {}
    """Description of what the source has and is not used → its number."""


@dataclass(frozen=True, kw_only=True)
class RunEstimate:
    """Estimated size of a run."""

    data: str
    """Data source and the origin of its numbers, in words."""
    left_out: Mapping[str, int]
    """Description of what the source has and is not used → its number."""
    train_images: int
    """Number of training images."""
    classes: int
    """Number of classes."""
    image_shape: tuple[int, int, int]
    """Channels, height and width of an image in pixels."""
    steps_per_epoch: int
    """Number of steps per epoch."""
    steps: int
    """Number of steps of the whole run."""
    parameters: int
    """Number of parameters of the cohort, heads included."""
    multiply_adds: int
    """Multiply-adds of one forward pass of one image through the whole cohort, heads included."""
    disk_bytes: int
    """Bytes of the checkpoints that are kept."""
    state_bytes: int
    """Bytes of memory for weights, gradients, momentum, and the state of the method."""
    activation_bytes: int
    """Bytes of memory that a step stores for its backward pass, on one worker, in float32."""
    splits: Sequence[SplitCost] = ()
    """Costs of the splits over the fewest workers, the chosen one first; none if one process trains the run."""


def estimate_run(
    spec: RunSpec, environment: Environment, workers: tuple[int, int] = (1, 1), images: Images | None = None
) -> RunEstimate:
    """Estimate a run from its data set if it is on this machine, otherwise from the published numbers.

    Args:
        spec: the run.
        environment: location of the data set.
        workers: minimum and maximum number of workers; memory is estimated for the minimum, and any number between
            them must be able to share the run.
        images: result of `images_of`, if it is known already.

    Raises:
        SpecError: the sampler cannot form its batches, or the workers cannot share the run.
        DataError: the data set is damaged, or its checksum differs from the spec's.
        CheckpointError: the checkpoint of a frozen backbone cannot be read, or differs from the spec.
    """
    source, counts, shape, left_out = images or images_of(spec.data, environment)
    check_counts(counts, spec, most_batch_parts(spec, environment.parallelism, workers))
    num_images, classes = int(counts.sum()), len(counts)
    steps = num_images // spec.batch.size
    from mcl_ray.methods.method import FLOAT_BYTES  # imports torch, which the checks above do without
    from mcl_ray.training import build, costs, worker_split

    if environment.backbone is not None:
        build.cohort_of(spec, classes, shape[0], environment.backbone)
    cost = costs.cost_of(spec, classes, shape)
    size = worker_split.Size(classes, shape, num_images)
    splits = worker_split.costs_of_splits(spec, environment.parallelism, workers[0], size)
    memory = splits[0].memory
    trained = costs.trained_parameters(spec, classes, shape)  # these have a momentum, too
    method_state = costs.method_state_bytes(spec, cost.parameters, num_images)
    return RunEstimate(
        data=f"{spec.data.source} ({source})",
        left_out=left_out,
        train_images=num_images,
        classes=classes,
        image_shape=shape,
        steps_per_epoch=steps,
        steps=steps * spec.schedule.epochs,
        parameters=cost.parameters,
        multiply_adds=cost.multiply_adds,
        disk_bytes=environment.checkpoints_kept * (FLOAT_BYTES * (cost.parameters + trained) + method_state),
        state_bytes=memory.state,
        activation_bytes=memory.activations,
        splits=splits if workers[0] > 1 else (),
    )


def images_of(data: DataSpec, environment: Environment) -> Images:
    """Count the training images of a data set on this machine; otherwise return the published numbers.

    Raises:
        DataError: the data set is damaged, or its checksum differs from the spec's; or it is missing, and nothing else
            says its size.
    """
    location = environment.data
    if _is_in_memory_here(data, location):
        dataset = load_dataset(data, replace(environment, download=False))
        counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
        return Images("counted on this machine", counts, dataset.image_shape, dataset.left_out)
    size = DATASETS[data.source].size
    if size is None:
        raise DataError(f"the size of data.source={data.source} is known by its images alone, but {location} has none")
    shape = (3, data.image_size, data.image_size) if data.is_encoded else size.image_shape
    if data.is_encoded and not isinstance(location, Uri) and location != Environment.data and location.exists():
        index = list_images(data, location)
        counts = index.train_counts(data.validation_fraction)
        tables = "".join(f", the classes of {split}/ from {table}" for split, table in index.tables.items())
        return Images(f"counted on this machine{tables}", counts, shape, index.left_out)
    absent = "not downloaded from" if isinstance(location, Uri) else "not at"
    num_images = round(size.num_train * (1 - data.validation_fraction))
    counts = np.full(size.num_classes, num_images // size.num_classes)
    counts[: num_images - int(counts.sum())] += 1
    return Images(f"{absent} {location}: counts as published", counts, shape)


def _is_in_memory_here(data: DataSpec, location: Path | Uri) -> bool:
    """Return whether a data set that fits into memory is on this machine; a dry run downloads nothing from a store."""
    if data.source in cifar.LAYOUTS:
        return not isinstance(location, Uri) and cifar.is_present(location, cifar.LAYOUTS[data.source])
    if data.source in TORCHVISION:
        return not isinstance(location, Uri) and is_downloaded(data.source, location)
    entry = DATASETS[data.source]
    if entry.loader is None or not entry.reads_files:
        return data.source == "npz" or not entry.reads_files
    return not isinstance(location, Uri) and location.exists()
