"""A spec's parts on the device where they train: the device itself, the cohort on it, its method."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from mcl_ray import distributed
from mcl_ray.cohort import Cohort, build_cohort
from mcl_ray.config.spec import RunSpec
from mcl_ray.contrast.bank import MemoryBank, SlotSampler
from mcl_ray.contrast.queue import KeyQueue
from mcl_ray.data.dataset import Dataset
from mcl_ray.errors import UserError
from mcl_ray.linear_probe import FrozenCohort, build_backbone, build_linear_classifiers
from mcl_ray.methods.linear import Linear
from mcl_ray.methods.method import Method, Peers, uses_contrastive_terms
from mcl_ray.methods.moco import Moco
from mcl_ray.methods.supervised import Supervised
from mcl_ray.methods.supervised_bank import SupervisedBank
from mcl_ray.results.dataset_info import DatasetInfo
from mcl_ray.training.backbone import checkpoint_at, load_backbone
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


def place_cohort(spec: RunSpec, dataset: Dataset, device: torch.device, backbone: Path | None = None) -> Cohort:
    """A fresh cohort for a data set, on its device and in the spec's memory layout.

    Args:
        spec: Of the run.
        dataset: Its images.
        device: Where it is to be.
        backbone: The checkpoint whose networks it freezes, if it does, or a sweep's folder that has the run of it.

    Raises:
        CheckpointError: what linear classification is to freeze cannot be read, or is other than the spec says.
    """
    cohort = cohort_of(spec, dataset.num_classes, dataset.image_shape[0], backbone).to(device)
    if distributed.world_size() > 1 and spec.compute.batch_statistics == "synchronised":
        synchronise_batch_norm(cohort, device)
    layout = torch.channels_last if spec.compute.channels_last else torch.contiguous_format
    return cohort.to(memory_format=layout)


def cohort_of(spec: RunSpec, num_classes: int, in_channels: int, backbone: Path | None = None) -> Cohort:
    """The cohort that a spec's method trains, with fresh weights, but for those of a frozen `backbone`, if given.

    Heads that no loss reaches are frozen: nothing would ever change them, and workers would wait for their gradients.
    """
    if spec.method == "linear":
        networks = build_backbone(spec.cohort, in_channels)
        if backbone is not None:
            assert spec.linear.backbone is not None, "the door has filled it in"
            load_backbone(networks, checkpoint_at(backbone, spec.pretraining), spec.linear.backbone)
        return build_linear_classifiers(networks, spec.linear.features, num_classes)
    cohort = build_cohort(spec.cohort, num_classes if spec.is_supervised else 0, in_channels)
    cohort.heads.requires_grad_(uses_contrastive_terms(spec.losses, cohort.num_peers))
    return cohort


def shared_by_workers(cohort: Cohort, device: torch.device) -> Peers:
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


def build_method(spec: RunSpec, dataset: Dataset, cohort: Cohort, device: torch.device) -> Method:
    """The method of a spec, with what it remembers as it is before the first step."""
    peers, bf16 = shared_by_workers(cohort, device), spec.compute.precision == "bf16"
    if spec.method == "supervised":
        return Supervised(peers, spec.losses, bf16=bf16)
    if isinstance(cohort, FrozenCohort):
        return Linear(peers, spec.losses, bf16=bf16, cohort=cohort)
    generator = torch.Generator(device).manual_seed(spec.seed)
    size, width = spec.cohort.size, spec.cohort.embedding_dim
    if spec.method == "moco":
        return Moco(
            peers,
            spec.losses,
            bf16=bf16,
            cohort=cohort,
            keys=copy.deepcopy(cohort).requires_grad_(False),
            queue=KeyQueue(size, spec.queue.keys, width, generator=generator),
            key_momentum=spec.queue.key_momentum,
            shuffles=distributed.world_size() > 1 and spec.compute.batch_statistics == "local",
        )
    labels = torch.from_numpy(dataset.train.labels).to(device)
    momentum = spec.bank.memory_momentum
    return SupervisedBank(
        peers,
        spec.losses,
        bf16=bf16,
        bank=MemoryBank(size, remembered_images(spec, len(labels)), width, momentum=momentum, generator=generator),
        sampler=SlotSampler(labels, positives=spec.bank.positives, negatives=spec.bank.negatives),
    )


def remembered_images(spec: RunSpec, train_images: int) -> int:
    """How many images of so many have a slot in each memory bank: none where nothing is contrasted with it."""
    is_used = spec.method == "supervised_bank" and uses_contrastive_terms(spec.losses, spec.cohort.size)
    return train_images if is_used else 0


def describe(spec: RunSpec, dataset: Dataset | DatasetInfo) -> str:
    """The architecture in words: what a checkpoint's tensors belong to."""
    networks = " + ".join(spec.cohort.peers)
    stem = "one stem" if spec.cohort.shares_stem else "own stems"
    head = "" if spec.cohort.head == "mcl" else f", {spec.cohort.head} heads"
    shape = "×".join(map(str, dataset.image_shape))
    if spec.method == "linear":
        chosen = spec.linear.features
        whose = f"peer {chosen}" if isinstance(chosen, int) else chosen
        return f"linear classifiers ({whose}) of {dataset.num_classes} classes on {networks} ({stem}) of {shape} images"
    classes = f"images of {dataset.num_classes} classes" if spec.is_supervised else "images without classes"
    return f"{networks} ({stem}, embedding {spec.cohort.embedding_dim}{head}) on {shape} {classes}"
