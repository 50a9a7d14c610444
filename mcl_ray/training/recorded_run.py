"""One recorded run: training wrapped in a results writer, so that every way in which it can end is recorded."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from mcl_ray.callbacks import EpochEnd, RunCallback, RunEnd, RunStart, notify
from mcl_ray.config.environment import Environment
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.dataset import Dataset
from mcl_ray.distributed import world_size
from mcl_ray.errors import CheckpointError, OutOfMemoryError, WorkerDiedError, is_out_of_memory
from mcl_ray.results.dataset_info import DatasetInfo
from mcl_ray.results.provenance import on_workers
from mcl_ray.results.schema import EpochRow, RunState
from mcl_ray.results.store import Provenance, RunWriter
from mcl_ray.training.build import choose_device, describe, place_cohort
from mcl_ray.training.checkpoint import CheckpointFolder, check_belongs
from mcl_ray.training.compilation import failed_compilation_is_typed
from mcl_ray.training.costs import cost_of
from mcl_ray.training.evaluate import score
from mcl_ray.training.loaders import build_loaders
from mcl_ray.training.loop import iter_epochs
from mcl_ray.training.pack import Pack
from mcl_ray.training.run_recorder import RunRecorder, TensorBoardCallback
from mcl_ray.training.threads import suitable_threads
from mcl_ray.training.worker_split import chosen_split

LOST_WORKER_SIGNS = ("connection reset by peer", "connection closed by peer", "broken pipe")
"""Phrases by which gloo reports it in a plain RuntimeError."""

_log = logging.getLogger(__name__)


def iter_recorded_run(
    spec: RunSpec,
    dataset: Dataset,
    environment: Environment,
    writer: RunWriter | None,
    callbacks: Sequence[RunCallback] = (),
    pack: Pack | None = None,
) -> Generator[EpochEnd, None, None]:
    """Train `spec` into the folder of `writer`, and yield each epoch's event once the epoch is on the disk.

    From the first epoch asked for, the writer is finished and closed however the run ends: by its last epoch, by
    `close` (the run is recorded as stopped if that was decided, else as interrupted), or by an exception, its own or
    thrown in.

    Args:
        spec: What to train.
        dataset: The images.
        environment: Device, folders and threads.
        writer: Writer of the run's record; None on every rank but 0, where no callback is called either.
        callbacks: Receive every event of the run after it is recorded.
        pack: As for `iter_epochs`, whose event of epoch 0 is yielded, too.

    Raises:
        TrainingError: the run cannot continue; recorded as failed.
        StoreError: the record cannot be written; the run is recorded, if at all, as interrupted.
    """
    if environment.threads:
        torch.set_num_threads(environment.threads)
    if writer is None:
        with _typed_errors():
            for epoch in iter_epochs(spec, dataset, environment, None):
                yield epoch  # not `yield from`, which would throw errors into the loop
        return
    recorders = RunRecorder(writer), TensorBoardCallback()
    end_sent = _run_end_sent(writer, (*recorders, *callbacks))
    with end_sent, writer, _typed_errors(), suitable_threads(spec, dataset, environment):
        _warn_of_slow_bf16(spec, environment)
        _record_split(spec, dataset, environment, writer)
        start = _run_start(spec, dataset, writer)
        notify(recorders, "on_run_start", start)
        with writer.paused():
            notify(callbacks, "on_run_start", start)
        try:
            for epoch in iter_epochs(spec, dataset, environment, writer.checkpoints, callbacks, pack):
                if epoch.epoch == 0:  # built, and nothing trained: there is nothing to record
                    with writer.paused():
                        yield epoch
                    continue
                notify(recorders, "on_epoch_end", epoch)
                if epoch.epoch == spec.schedule.epochs:
                    writer.finish("finished")
                with writer.paused():
                    notify(callbacks, "on_epoch_end", epoch)
                    yield epoch
        except GeneratorExit:
            if writer.state == "running":  # else it was closed after its last epoch
                writer.finish(writer.state_if_closed)
            raise


def train_recorded_run(
    spec: RunSpec,
    dataset: Dataset,
    environment: Environment,
    writer: RunWriter | None,
    callbacks: Sequence[RunCallback] = (),
) -> None:
    """Train to the end by `iter_recorded_run`.

    Raises:
        TrainingError: the run cannot continue; recorded as failed.
    """
    run = iter_recorded_run(spec, dataset, environment, writer, callbacks)
    try:
        for _ in run:
            pass
    except BaseException as error:
        run.throw(error)  # Ctrl-C between two epochs; any other error is the run's own, and is raised again


def _record_split(spec: RunSpec, dataset: Dataset, environment: Environment, writer: RunWriter) -> None:
    """Record how many workers share a batch, unless all do: over their images batch normalisation averages."""
    split = chosen_split(spec, dataset, environment.parallelism, world_size())
    if split.splits_peers:
        writer.record_hardware(machine_provenance(environment, split.batch_parts).hardware)


def _run_start(spec: RunSpec, dataset: Dataset, writer: RunWriter) -> RunStart:
    cost = cost_of(spec, dataset.num_classes, dataset.image_shape)
    return RunStart(
        run_id=writer.run_id,
        folder=writer.folder,
        spec=spec,
        attempt=writer.attempt,
        dataset=dataset_info(dataset),
        parameters=cost.parameters,
        multiply_adds=cost.multiply_adds,
    )


@contextmanager
def _run_end_sent(writer: RunWriter, callbacks: Sequence[RunCallback]) -> Iterator[None]:
    """Send `on_run_end` once the writer is closed."""

    def send(error: BaseException | None = None) -> None:
        # The end of a run whose last record could not be written reads as an interruption.
        state = cast("RunState", "interrupted" if writer.state == "running" else writer.state)
        notify(callbacks, "on_run_end", RunEnd(run_id=writer.run_id, folder=writer.folder, state=state, error=error))

    try:
        yield
    except GeneratorExit:
        send()
        raise
    except BaseException as error:
        send(error)
        raise
    send()


@contextmanager
def _typed_errors() -> Iterator[None]:
    with failed_compilation_is_typed(), out_of_memory_is_typed(), lost_workers_are_typed():
        yield


def check_resumable(spec: RunSpec, dataset: Dataset, checkpoints: Path) -> None:
    """Check that a run can resume from its checkpoints, before its record is changed.

    Raises:
        CheckpointError: there are some, but none that is undamaged and of this spec and these images.
    """
    found = CheckpointFolder(checkpoints).latest(quiet=True)  # training reads it again, and logs what is damaged
    if found is not None:
        check_belongs(*found, digests=spec.digests, architecture=describe(spec, dataset))


def dataset_info(dataset: Dataset) -> DatasetInfo:
    """Return what a run records of its images."""
    return DatasetInfo(
        source=dataset.name,
        class_names=dataset.class_names,
        mean=dataset.mean,
        std=dataset.std,
        image_shape=dataset.image_shape,
        counts={name: len(split) for name, split in dataset.splits.items()},
        left_out=dataset.left_out,
    )


def _warn_of_slow_bf16(spec: RunSpec, environment: Environment) -> None:
    if spec.compute.precision == "bf16" and choose_device(environment.device).type == "cpu" and not has_fast_bf16():
        _log.warning("this processor has no bf16 instructions: precision=bf16 is several times slower on it than fp32")


def has_fast_bf16() -> bool:
    """Return whether this processor has bf16 instructions (AVX-512 BF16, AMX), rather than emulating them."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def machine_provenance(environment: Environment, batch_parts: int | None = None) -> Provenance:
    """Return the machine and the versions that a run trains with: its GPU or CPU, and the number of workers.

    Args:
        environment: device of the run.
        batch_parts: as for `on_workers`.
    """
    provenance = Provenance()
    device = choose_device(environment.device)
    if device.type == "cuda":
        provenance = replace(provenance, hardware=torch.cuda.get_device_name(device))
    return replace(provenance, hardware=on_workers(provenance.hardware, world_size(), batch_parts))


@contextmanager
def out_of_memory_is_typed() -> Iterator[None]:
    """Convert the several errors of exhausted memory to one.

    Raises:
        OutOfMemoryError: the device or the machine has too little memory.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemoryError(f"the run does not fit into memory: {error}") from error
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(f"the run does not fit into memory: {error}") from error


@contextmanager
def lost_workers_are_typed() -> Iterator[None]:
    """Convert torch's errors about a lost worker to one error, raised on the remaining workers.

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
    spec: RunSpec, dataset: Dataset, environment: Environment, checkpoints: Path, epochs_done: int | None = None
) -> tuple[int, list[EpochRow]]:
    """Return the epochs done and the test figures of a run's newest checkpoint.

    Raises:
        CheckpointError: there is no checkpoint, or none that is undamaged and of this spec; or it is of another epoch
            than `epochs_done`, where that is given.
    """
    found = CheckpointFolder(checkpoints).latest()
    if found is None:
        raise CheckpointError(f"a trained run has a checkpoint, but {checkpoints} holds none")
    checkpoint, file = found
    if epochs_done not in (None, checkpoint.epoch):
        raise CheckpointError(
            f"the checkpoint of epoch {epochs_done} must be undamaged, but the newest one in {checkpoints} that is has "
            f"epoch {checkpoint.epoch}"
        )
    check_belongs(checkpoint, file, digests=spec.digests, architecture=describe(spec, dataset))
    device = choose_device(environment.device)
    cohort = place_cohort(spec, dataset, device, environment.backbone)
    cohort.load_state_dict(checkpoint.cohort)
    loaders = build_loaders(spec, dataset, environment, device)
    splits = {"test": loaders["test"]}
    return checkpoint.epoch, score(spec, cohort, loaders["train"], splits, dataset.num_classes)
