"""From a data set's splits to what feeds them to the loop: all at once on the device, or as they are read."""

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
    """A feed for each split that there is, by name."""
    augment, splits = build_augment(spec, dataset), dataset.splits
    in_memory = {name: split for name, split in splits.items() if isinstance(split, ImageSet)}
    if in_memory:
        return {name: DeviceImages(split, augment, device) for name, split in in_memory.items()}
    from mcl_ray.training.streaming import ReaderWorkers, StreamedImages  # loads torchvision

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
    """The augmentation of a spec with the data set's own normalisation."""
    return Augment(
        mean=dataset.mean,
        std=dataset.std,
        crop_padding=spec.augmentation.crop_padding,
        flip=spec.augmentation.flip,
        channels_last=spec.compute.channels_last,
    )
