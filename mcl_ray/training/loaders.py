"""Building of the image loaders of a data set's splits: images on the device, or streamed by reader processes."""

from __future__ import annotations

import torch

from mcl_ray.config.environment import Environment
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.augment import Augment
from mcl_ray.data.dataset import Dataset, ImageSet
from mcl_ray.data.encoded import EncodedSet
from mcl_ray.training.image_loader import DeviceImages, ImageLoader


def build_loaders(
    spec: RunSpec, dataset: Dataset, environment: Environment, device: torch.device
) -> dict[str, ImageLoader]:
    """Build a loader for each split of the data set, by name.

    Args:
        spec: the run.
        dataset: its data set.
        environment: number of reader processes.
        device: the training device.
    """
    augment, splits = build_augment(spec, dataset), dataset.splits
    in_memory = {name: split for name, split in splits.items() if isinstance(split, ImageSet)}
    if in_memory:
        return {name: DeviceImages(split, augment, device) for name, split in in_memory.items()}
    from mcl_ray.training.streaming import ReaderWorkers, StreamedImages  # imports torchvision

    encoded = {name: split for name, split in splits.items() if isinstance(split, EncodedSet)}
    readers = ReaderWorkers(
        encoded,
        spec.augmentation,
        count=environment.readers,
        pin=device.type == "cuda",
        unreadable=spec.data.unreadable,
        num_views=spec.num_views,
    )
    return {name: StreamedImages(name, split, readers, augment, device) for name, split in encoded.items()}


def build_augment(spec: RunSpec, dataset: Dataset) -> Augment:
    """Build the augmentation of a spec with the data set's normalisation."""
    return Augment(
        mean=dataset.mean,
        std=dataset.std,
        crop_padding=spec.augmentation.crop_padding,
        flip=spec.augmentation.flip,
        channels_last=spec.compute.channels_last,
    )
