"""Building of a run's parts from its spec: the device, the cohort on it, and the method."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from mcl_ray.cohort import Cohort, build_cohort
from mcl_ray.cohort_part import CohortPart
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.dataset import Dataset
from mcl_ray.distributed import Subgroup, all_workers, world_size
from mcl_ray.errors import SpecError, UserError
from mcl_ray.linear_probe import build_backbone, build_linear_classifiers
from mcl_ray.methods.method import Method, OnePassMethod, Peers, uses_contrastive_terms
from mcl_ray.methods.registry import method_class
from mcl_ray.results.dataset_info import DatasetInfo
from mcl_ray.training.backbone import checkpoint_at, load_backbone
from mcl_ray.training.batch_norm import synchronise_batch_norm
from mcl_ray.worker_layout import WorkerLayout, all_peers_on_each_worker


def choose_device(name: str) -> torch.device:
    """Return the device of this name; `auto` selects CUDA if this machine has it.

    Raises:
        UserError: this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device, count = torch.device(name), torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(f"the device must be one that this machine has, but got {name} and {count} CUDA devices")
    return device


def place_cohort(
    spec: RunSpec,
    dataset: Dataset,
    device: torch.device,
    backbone: Path | None = None,
    layout: WorkerLayout | None = None,
) -> Cohort:
    """Build a cohort with initial weights for a data set, on a device and in the spec's memory format.

    Args:
        spec: the run.
        dataset: its data set.
        device: device of the cohort.
        backbone: for linear classification, the checkpoint of the frozen networks, or the folder of the sweep whose run
            has it.
        layout: the workers that share the batch, and those that share the cohort; None: all have all peers.

    Raises:
        CheckpointError: the checkpoint cannot be read, or differs from the spec.
    """
    layout = layout or all_peers_on_each_worker(spec.cohort.size)
    cohort = cohort_of(spec, dataset.num_classes, dataset.image_shape[0], backbone)
    if layout.split.splits_peers:
        cohort = CohortPart(cohort, layout)
    cohort = cohort.to(device)
    if layout.batch.size > 1 and spec.compute.batch_statistics == "synchronised":
        synchronise_batch_norm(cohort, device, layout.batch)
    memory_format = torch.channels_last if spec.compute.channels_last else torch.contiguous_format
    return cohort.to(memory_format=memory_format)


def cohort_of(spec: RunSpec, num_classes: int, in_channels: int, backbone: Path | None = None) -> Cohort:
    """Build the cohort that a spec's method trains, with random weights, except those of a given frozen `backbone`.

    Heads without a loss are frozen: they would never change, and DistributedDataParallel would wait for their
    gradients.

    Args:
        spec: the run.
        num_classes: C.
        in_channels: channels of the images.
        backbone: as for `place_cohort`.

    Raises:
        CheckpointError: the checkpoint cannot be read, or differs from the spec.
    """
    if not spec.trains_networks:
        networks = build_backbone(spec.cohort, in_channels)
        if backbone is not None:
            assert spec.linear.backbone is not None, "the command sets it together with the path"
            load_backbone(networks, checkpoint_at(backbone, spec.pretraining), spec.linear.backbone)
        return build_linear_classifiers(networks, spec.linear.features, num_classes)
    cohort = build_cohort(spec.cohort, num_classes if spec.is_supervised else 0, in_channels)
    cohort.heads.requires_grad_(uses_contrastive_terms(spec.losses, cohort.num_peers))
    return cohort


def data_parallel(cohort: Cohort, device: torch.device, workers: Subgroup | None = None) -> Peers:
    """Wrap the cohort in DistributedDataParallel if several workers, all or those given, have the same peers.

    They start from the weights of the first of them, and gradients are averaged over them. Running statistics of batch
    normalisation differ between workers until `distributed.broadcast_buffers`. Training does not use them, so they are
    not exchanged at every step, which is torch's default.
    """
    workers = workers or all_workers()
    if workers.size == 1:
        return cohort
    devices = [device] if device.type == "cuda" else None
    wrapped = DistributedDataParallel(
        cohort, device_ids=devices, gradient_as_bucket_view=True, process_group=workers.process_group
    )
    wrapped.broadcast_buffers = False  # the constructor's argument would also omit the first broadcast
    return wrapped


def build_method(
    spec: RunSpec, dataset: Dataset, cohort: Cohort, device: torch.device, workers: Subgroup | None = None
) -> Method:
    """Build the method of a spec in its state before the first step.

    Args:
        spec: the run.
        dataset: its data set.
        cohort: the cohort that the method trains.
        device: device of the cohort.
        workers: workers with the same peers; None: all.
    """
    peers = data_parallel(cohort, device, workers)
    return method_class(spec.method).build(spec, peers=peers, cohort=cohort, dataset=dataset)


def check_stacked_peers(spec: RunSpec) -> None:
    """Check that the peers of a run can be computed as one network, if its spec says so.

    Raises:
        SpecError: its method has more than one forward pass, or several workers train it.
    """
    workers = world_size()
    if spec.compute.peers == "stacked" and (workers > 1 or not issubclass(method_class(spec.method), OnePassMethod)):
        raise SpecError(
            "compute.peers=stacked requires a method of one forward pass and a run of one process, but got "
            f"method={spec.method} and {workers} processes; set compute.peers=apart"
        )


def describe(spec: RunSpec, dataset: Dataset | DatasetInfo) -> str:
    """Describe the architecture in words; a checkpoint records it and is loaded only into the same architecture."""
    networks = " + ".join(spec.cohort.peers)
    stem = "one stem" if spec.cohort.shares_stem else "own stems"
    head = "" if spec.cohort.head == "mcl" else f", {spec.cohort.head} heads"
    shape = "×".join(map(str, dataset.image_shape))
    if not spec.trains_networks:
        chosen = spec.linear.features
        whose = f"peer {chosen}" if isinstance(chosen, int) else chosen
        return f"linear classifiers ({whose}) of {dataset.num_classes} classes on {networks} ({stem}) of {shape} images"
    classes = f"images of {dataset.num_classes} classes" if spec.is_supervised else "images without classes"
    return f"{networks} ({stem}, embedding {spec.cohort.embedding_dim}{head}) on {shape} {classes}"
