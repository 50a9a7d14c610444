"""A spec's parts on the device where they train: the device itself, the cohort on it, the augmentation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.parallel import DistributedDataParallel

from mcl_ray import distributed
from mcl_ray.cohort import Cohort, CohortOutput, build_cohort
from mcl_ray.data.augment import Augment
from mcl_ray.data.dataset import Dataset
from mcl_ray.errors import UserError
from mcl_ray.methods.supervised import teaches_heads
from mcl_ray.spec import RunSpec
from mcl_ray.training.batch_norm import synchronise_batch_norm


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
    """A fresh cohort for a data set, on its device and in the spec's memory layout.

    Heads that no loss reaches are frozen: nothing would ever change them, and workers would wait for their gradients.
    """
    channels = dataset.train.images.shape[1]
    cohort = build_cohort(spec.cohort, len(dataset.class_names), channels).to(device)
    cohort.heads.requires_grad_(teaches_heads(spec.losses, cohort.num_peers))
    if distributed.world_size() > 1 and spec.compute.batch_statistics == "synchronised":
        synchronise_batch_norm(cohort, device)
    layout = torch.channels_last if spec.compute.channels_last else torch.contiguous_format
    return cohort.to(memory_format=layout)


def shared_by_workers(cohort: Cohort, device: torch.device) -> Callable[[torch.Tensor], CohortOutput]:
    """The cohort as the workers train it together, starting from the first one's: gradients are averaged over them.

    Running statistics of batch normalisation differ from worker to worker until `distributed.broadcast_buffers`.
    Training does not look at them, so exchanging them at every step, as is torch's default, would be in vain.
    """
    if distributed.world_size() == 1:
        return cohort
    devices = [device] if device.type == "cuda" else None
    shared = DistributedDataParallel(cohort, device_ids=devices, gradient_as_bucket_view=True)
    shared.broadcast_buffers = False  # its argument would leave them out at the start, too
    return shared


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
