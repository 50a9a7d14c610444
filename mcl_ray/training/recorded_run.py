"""One run from its spec to its record: training wrapped in a results writer, and every way it can end put on record."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from mcl_ray.config.environment import Environment
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.dataset import Dataset
from mcl_ray.distributed import world_size
from mcl_ray.errors import CheckpointError, OutOfMemoryError, WorkerDiedError
from mcl_ray.results.dataset_info import DatasetInfo
from mcl_ray.results.store import EpochRow, Provenance, RunWriter
from mcl_ray.results.tensorboard import EventFile
from mcl_ray.training.build import choose_device, describe, place_cohort
from mcl_ray.training.checkpoint import CheckpointFolder, check_belongs
from mcl_ray.training.costs import cost_of
from mcl_ray.training.evaluate import score
from mcl_ray.training.loaders import build_loaders
from mcl_ray.training.loop import Heartbeat, Report, Told, iter_epochs, silent

OUT_OF_MEMORY_SIGNS = ("can't allocate memory", "out of memory", "alloc_failed")
"""How the CPU's allocator, CUDA and its libraries say it in a plain RuntimeError."""
LOST_WORKER_SIGNS = ("connection reset by peer", "connection closed by peer", "broken pipe")
"""How gloo says it in a plain RuntimeError."""

_log = logging.getLogger(__name__)


def run_epochs(
    spec: RunSpec,
    dataset: Dataset,
    environment: Environment,
    writer: RunWriter | None,
    heartbeat: Heartbeat = silent,
) -> Generator[Told, None, None]:
    """Train `spec` into the folder of `writer`, telling each epoch once it is on disk.

    From the first epoch asked for, the writer is finished and given back however the run ends: by its last epoch, by
    `close` (the run is recorded as stopped), or by an exception, its own or thrown in. Workers after the first have no
    writer.

    Raises:
        TrainingError: the run cannot go on; recorded as failed.
    """
    if environment.threads:
        torch.set_num_threads(environment.threads)
    folder = None if writer is None else writer.checkpoints
    with writer or nullcontext(), _event_file(writer) as events, out_of_memory_is_typed(), lost_workers_are_typed():
        if writer is not None:
            _warn_of_slow_bf16(spec, environment)
            writer.record_images(record_of(dataset))
            writer.describe(**cost_of(spec, dataset.num_classes, dataset.image_shape)._asdict())
        try:
            for told in iter_epochs(spec, dataset, environment, folder, heartbeat):
                if writer is None or events is None:
                    yield told
                    continue
                writer.record_unreadable(told.report.unreadable)
                writer.record_epoch(told.report.epoch, told.report.rows)
                events.epoch(*told)
                if told.report.epoch == spec.schedule.epochs:
                    writer.finish("finished")
                with writer.resting():
                    yield told
        except GeneratorExit:
            if writer is not None and writer.state == "running":  # else it was closed after its last epoch
                writer.finish("stopped")
            raise


def _event_file(writer: RunWriter | None) -> AbstractContextManager[EventFile | None]:
    return nullcontext() if writer is None else EventFile(writer.folder)


def train_run(
    spec: RunSpec,
    dataset: Dataset,
    environment: Environment,
    writer: RunWriter | None,
    report: Report | None = None,
    heartbeat: Heartbeat = silent,
) -> None:
    """Train to the end by `run_epochs`, telling `report` of each epoch; what it raises ends the run.

    Raises:
        TrainingError: the run cannot go on; recorded as failed.
    """
    run = run_epochs(spec, dataset, environment, writer, heartbeat)
    try:
        for told in run:
            if report is not None:
                report(*told)
    except BaseException as error:
        run.throw(error)


def check_resumable(spec: RunSpec, dataset: Dataset, checkpoints: Path) -> None:
    """Whether a run can go on from its checkpoints, asked before its record says that it does.

    Raises:
        CheckpointError: there are some, but none that is undamaged and of this spec and these images.
    """
    found = CheckpointFolder(checkpoints).latest(quiet=True)  # training reads it again, and says what is damaged
    if found is not None:
        check_belongs(*found, digest=spec.digest, architecture=describe(spec, dataset))


def record_of(dataset: Dataset) -> DatasetInfo:
    """What a run's record says of its images."""
    return DatasetInfo(
        source=dataset.name,
        class_names=dataset.class_names,
        mean=dataset.mean,
        std=dataset.std,
        image_shape=dataset.image_shape,
        counts={name: len(split) for name, split in dataset.splits.items()},
    )


def _warn_of_slow_bf16(spec: RunSpec, environment: Environment) -> None:
    if spec.compute.precision == "bf16" and choose_device(environment.device).type == "cpu" and not has_fast_bf16():
        _log.warning("this processor has no bf16 instructions: precision=bf16 is several times slower than fp32 here")


def has_fast_bf16() -> bool:
    """Whether this processor computes in bf16 itself (AVX-512 BF16, AMX) rather than step by step in software."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def machine_provenance(environment: Environment) -> Provenance:
    """The machine a run finds itself on, the GPU's name where it trains on one; how many workers share it."""
    facts = Provenance()
    device = choose_device(environment.device)
    if device.type == "cuda":
        facts = replace(facts, hardware=torch.cuda.get_device_name(device))
    workers = world_size()
    return replace(facts, hardware=f"{workers} workers, each on {facts.hardware}") if workers > 1 else facts


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


@contextmanager
def lost_workers_are_typed() -> Iterator[None]:
    """Turn what torch says when a worker of the run goes away into one error on those that are left.

    Raises:
        WorkerDiedError: the workers cannot reach each other.
    """
    try:
        yield
    except RuntimeError as error:
        lost = any(sign in str(error).lower() for sign in LOST_WORKER_SIGNS)
        if world_size() == 1 or not (lost or isinstance(error, torch.distributed.DistError)):
            raise
        raise WorkerDiedError(f"the {world_size()} workers of the run lost each other: {error}") from error


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
    cohort = place_cohort(spec, dataset, device, environment.backbone)
    cohort.load_state_dict(checkpoint.cohort)
    feeds = build_loaders(spec, dataset, environment, device)
    splits = {"test": feeds["test"]}
    return checkpoint.epoch, score(spec, cohort, feeds["train"], splits, dataset.num_classes)
