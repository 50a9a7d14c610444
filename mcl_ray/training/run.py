"""One run from its spec to its record: training wrapped in a results writer, and every way it can end put on record."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from mcl_ray.cohort import build_cohort
from mcl_ray.data.dataset import Dataset
from mcl_ray.environment import Environment
from mcl_ray.errors import CheckpointError, OutOfMemoryError
from mcl_ray.models.cost import multiply_adds, parameter_count
from mcl_ray.results.store import EpochRow, Facts, RunWriter
from mcl_ray.spec import RunSpec
from mcl_ray.training.checkpoint import CheckpointFolder, check_belongs
from mcl_ray.training.evaluate import evaluate
from mcl_ray.training.images import DeviceImages
from mcl_ray.training.loop import EpochReport, Heartbeat, Report, fit, silent
from mcl_ray.training.placement import build_augment, choose_device, describe, place_cohort

OUT_OF_MEMORY_SIGNS = ("can't allocate memory", "out of memory", "alloc_failed")
"""How the CPU's allocator, CUDA and its libraries say it in a plain RuntimeError."""

_log = logging.getLogger(__name__)


class EarlyStop(Exception):  # noqa: N818 -- not an error: whoever is told of an epoch may end the run with it
    """Raised by a report to end the run after this epoch; the run is recorded as stopped."""


def train_run(
    spec: RunSpec,
    dataset: Dataset,
    environment: Environment,
    writer: RunWriter,
    report: Report | None = None,
    heartbeat: Heartbeat = silent,
) -> None:
    """Train `spec` into the folder of `writer`, which is finished and given back however the run ends.

    Every epoch is on disk before `report` hears of it.

    Raises:
        TrainingError: the run cannot go on; recorded as failed.
    """

    def record(epoch: EpochReport, checkpoint: Path | None) -> None:
        writer.record_epoch(epoch.epoch, epoch.rows)
        if epoch.epoch == spec.schedule.epochs:
            writer.finish("finished")
        if report is not None:
            report(epoch, checkpoint)

    if environment.threads:
        torch.set_num_threads(environment.threads)
    if spec.compute.precision == "bf16" and choose_device(environment.device).type == "cpu" and not has_fast_bf16():
        _log.warning("this processor has no bf16 instructions: precision=bf16 is several times slower than fp32 here")
    with writer:
        writer.describe(**cost_of(spec, dataset.num_classes, dataset.image_shape)._asdict())
        try:
            with out_of_memory_is_typed():
                fit(spec, dataset, environment, writer.checkpoints, record, heartbeat)
        except EarlyStop:
            if writer.state == "running":  # else it was told to stop after its last epoch
                writer.finish("stopped")
            raise


def check_resumable(spec: RunSpec, dataset: Dataset, checkpoints: Path) -> None:
    """Whether a run can go on from its checkpoints, asked before its record says that it does.

    Raises:
        CheckpointError: there are some, but none that is undamaged and of this spec and these images.
    """
    found = CheckpointFolder(checkpoints).latest(quiet=True)  # training reads it again, and says what is damaged
    if found is not None:
        check_belongs(*found, digest=spec.digest, architecture=describe(spec, dataset))


def has_fast_bf16() -> bool:
    """Whether this processor computes in bf16 itself (AVX-512 BF16, AMX) rather than step by step in software."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class Cost(NamedTuple):
    """What a cohort costs, heads included."""

    parameters: int
    multiply_adds: int
    """Of one image, one forward pass through all peers."""


def cost_of(spec: RunSpec, num_classes: int, image_shape: tuple[int, int, int]) -> Cost:
    """The cost of a spec's cohort, from shapes alone."""
    with torch.device("meta"):
        cohort = build_cohort(spec.cohort, num_classes, image_shape[0])
    return Cost(parameter_count(cohort), multiply_adds(cohort, image_shape))


def machine_facts(environment: Environment) -> Facts:
    """The machine a run finds itself on, the GPU's name where it trains on one."""
    facts = Facts()
    device = choose_device(environment.device)
    return replace(facts, hardware=torch.cuda.get_device_name(device)) if device.type == "cuda" else facts


@contextmanager
def out_of_memory_is_typed() -> Iterator[None]:
    """Turn the several ways in which memory runs out into one error.

    Raises:
        OutOfMemoryError: the device or the machine has too little memory.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemoryError(f"the run does not fit into memory: {error}") from error
    except RuntimeError as error:
        if not any(sign in str(error).lower() for sign in OUT_OF_MEMORY_SIGNS):
            raise
        raise OutOfMemoryError(f"the run does not fit into memory: {error}") from error


def score_test_split(
    spec: RunSpec, dataset: Dataset, environment: Environment, checkpoints: Path
) -> tuple[int, list[EpochRow]]:
    """Epochs done and test figures of a run's newest checkpoint.

    Raises:
        CheckpointError: there is no checkpoint, or none that is undamaged and of this spec.
    """
    found = CheckpointFolder(checkpoints).latest()
    if found is None:
        raise CheckpointError(f"a trained run has a checkpoint, but {checkpoints} holds none")
    checkpoint, file = found
    check_belongs(checkpoint, file, digest=spec.digest, architecture=describe(spec, dataset))
    device = choose_device(environment.device)
    cohort = place_cohort(spec, dataset, device)
    cohort.load_state_dict(checkpoint.cohort)
    images = DeviceImages(dataset.test, build_augment(spec, dataset), device)
    scores = evaluate(cohort, images, spec.evaluation.batch_size, bf16=spec.compute.precision == "bf16")
    return checkpoint.epoch, [EpochRow(member, "test", metric, value) for (metric, member), value in scores.items()]
