"""A spec's parts on the device where they train: the device itself, the cohort on it, the augmentation."""

from __future__ import annotations

import torch

from mcl_ray.cohort import Cohort, build_cohort
from mcl_ray.data.augment import Augment
from mcl_ray.data.dataset import Dataset
from mcl_ray.errors import UserError
from mcl_ray.spec import RunSpec


def choose_device(name: str) -> torch.device:
    """The device that `name` stands for; `auto` is a CUDA device where there is one.

    Raises:
        UserError: this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device, count = torch.device(name), torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(f"the device must be one that this machine has, but got {name} and {count} CUDA devices")
    return device


def place_cohort(spec: RunSpec, dataset: Dataset, device: torch.device) -> Cohort:
    """A fresh cohort for a data set, on its device and in the spec's memory layout."""
    channels = dataset.train.images.shape[1]
    cohort = build_cohort(spec.cohort, len(dataset.class_names), channels).to(device)
    layout = torch.channels_last if spec.compute.channels_last else torch.contiguous_format
    return cohort.to(memory_format=layout)


def build_augment(spec: RunSpec, dataset: Dataset) -> Augment:
    """The augmentation of a spec with the data set's own normalisation."""
    return Augment(
        mean=dataset.mean,
        std=dataset.std,
        crop_padding=spec.augmentation.crop_padding,
        flip=spec.augmentation.flip,
        channels_last=spec.compute.channels_last,
    )


def describe(spec: RunSpec, dataset: Dataset) -> str:
    """The architecture in words: what a checkpoint's tensors belong to."""
    networks = " + ".join(spec.cohort.peers)
    stem = "one stem" if spec.cohort.shares_stem else "own stems"
    shape = "×".join(map(str, dataset.train.images.shape[1:]))
    classes = len(dataset.class_names)
    return f"{networks} ({stem}, embedding {spec.cohort.embedding_dim}) on {shape} images of {classes} classes"
