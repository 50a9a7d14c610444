"""A spec's parts on the device where they train: the device itself, the cohort on it, its method."""

from __future__ import annotations

import torch
from torch.nn.parallel import DistributedDataParallel

from mcl_ray import distributed
from mcl_ray.cohort import Cohort, build_cohort
from mcl_ray.contrast.bank import ContrastDraw, MemoryBank
from mcl_ray.data.dataset import Dataset
from mcl_ray.errors import UserError
from mcl_ray.methods.supervised import Peers, Supervised, teaches_heads
from mcl_ray.methods.supervised_bank import SupervisedBank
from mcl_ray.results.images import ImagesRecord
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
    channels = dataset.image_shape[0]
    cohort = build_cohort(spec.cohort, len(dataset.class_names), channels).to(device)
    cohort.heads.requires_grad_(teaches_heads(spec.losses, cohort.num_peers))
    if distributed.world_size() > 1 and spec.compute.batch_statistics == "synchronised":
        synchronise_batch_norm(cohort, device)
    layout = torch.channels_last if spec.compute.channels_last else torch.contiguous_format
    return cohort.to(memory_format=layout)


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


def build_method(spec: RunSpec, dataset: Dataset, peers: Peers, device: torch.device) -> Supervised:
    """The method of a spec, with what it remembers as it is before the first step."""
    bf16 = spec.compute.precision == "bf16"
    if spec.method == "supervised":
        return Supervised(peers, spec.losses, bf16=bf16)
    labels = torch.from_numpy(dataset.train.labels).to(device)
    return SupervisedBank(
        peers,
        spec.losses,
        bf16=bf16,
        bank=MemoryBank(
            spec.cohort.size,
            len(labels),
            spec.cohort.embedding_dim,
            momentum=spec.bank.memory_momentum,
            generator=torch.Generator(device).manual_seed(spec.seed),
        ),
        draw=ContrastDraw(labels, positives=spec.bank.positives, negatives=spec.bank.negatives),
    )


def describe(spec: RunSpec, dataset: Dataset | ImagesRecord) -> str:
    """The architecture in words: what a checkpoint's tensors belong to."""
    networks = " + ".join(spec.cohort.peers)
    stem = "one stem" if spec.cohort.shares_stem else "own stems"
    shape = "×".join(map(str, dataset.image_shape))
    classes = len(dataset.class_names)
    return f"{networks} ({stem}, embedding {spec.cohort.embedding_dim}) on {shape} images of {classes} classes"
