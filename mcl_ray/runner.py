"""Train one run: in this process, together with the other processes of torchrun, or in workers on Ray.

Each way takes a resolved spec, an environment and callbacks, and returns the folder of the finished run. Nothing here
prints; which runs there are to train is `pipeline.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mcl_ray.callbacks import RunCallback, notify
from mcl_ray.config.environment import Environment
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import StoreError
from mcl_ray.torchrun import TorchrunEnv

if TYPE_CHECKING:
    from mcl_ray.data.dataset import Dataset
    from mcl_ray.results.store import RunWriter


def run_local(spec: RunSpec, environment: Environment, *, resume: bool, callbacks: Sequence[RunCallback] = ()) -> Path:
    """Train in this process.

    Args:
        spec: What to train.
        environment: Device, folders and threads.
        resume: Resume the newest run of this spec, instead of starting one; a finished one is left as it is.
        callbacks: Receive the events of the run.

    Returns:
        The run's folder.

    Raises:
        UserError: the data, the results folder, the checkpoints or the backbone cannot be used, or this machine cannot
            compile the networks; nothing was written.
        TrainingError: the run cannot continue; recorded as failed.
    """
    from mcl_ray.data.source import dataset_for
    from mcl_ray.results.store import open_results

    open_results(environment)
    dataset = dataset_for(spec, environment)
    _check_backbone(spec, dataset, environment)
    _check_compute(spec, environment)
    writer = _resume(spec, dataset, environment, callbacks) if resume else _create(spec, environment)
    if isinstance(writer, Path):
        return writer
    from mcl_ray.training.recorded_run import train_recorded_run  # torch, which no bad input should load

    train_recorded_run(spec, dataset, environment, writer, callbacks)
    return writer.folder


def run_on_ray(
    spec: RunSpec,
    execution: ExecutionOptions,
    environment: Environment,
    *,
    resume: bool,
    callbacks: Sequence[RunCallback] = (),
) -> Path:
    """Train in workers that Ray starts, and restarts when one dies; arguments and errors are those of `run_local`."""
    from mcl_ray.results.store import open_results

    open_results(environment)
    dataset = _load_dataset(spec, environment, execution.group or (1, 1))
    _check_backbone(spec, dataset, environment)
    folder = _find_resumable(spec, dataset, environment) if resume else None
    if folder is not None and _is_done(folder, callbacks):
        return folder
    notify(callbacks, "on_status", execution.ray)  # importing Ray takes most of the time
    from trainables.run_on_ray import train_on_ray

    return train_on_ray(spec, execution, environment, folder, callbacks)


@contextmanager
def join_workers(worker: TorchrunEnv, environment: Environment) -> Iterator[Environment]:
    """Join the process group of torchrun's workers, and yield the environment with this worker's device.

    All runs of a pipeline share one process group: torch leaves keys of the first in its store, which a second one may
    take for its own. Without torchrun this does nothing.
    """
    if worker.world_size == 1:
        yield environment
        return
    from mcl_ray.distributed import group
    from mcl_ray.training.build import choose_device

    environment = dataclasses.replace(environment, device=worker.device(environment.device))
    with group(worker.rank, worker.world_size, choose_device(environment.device)):
        yield environment


def run_distributed(
    spec: RunSpec,
    environment: Environment,
    worker: TorchrunEnv,
    *,
    resume: bool,
    callbacks: Sequence[RunCallback] = (),
) -> Path:
    """Train as one of torchrun's workers, after `join_workers`; arguments are those of `run_local`.

    Rank 0 has the run's folder and calls the callbacks. An error of one worker is raised on all.
    """
    from mcl_ray.distributed import run_on_all_ranks, run_on_rank_zero
    from mcl_ray.results.store import open_results
    from mcl_ray.training.recorded_run import train_recorded_run

    def open_writer() -> RunWriter | Path | None:
        if worker.rank > 0:
            return None
        return _resume(spec, dataset, environment, callbacks) if resume else _create(spec, environment)

    run_on_rank_zero(lambda: open_results(environment))
    workers = (worker.world_size, worker.world_size)
    if environment.download:  # one worker of each node downloads
        run_on_all_ranks(lambda: _load_dataset(spec, environment, workers) if worker.local_rank == 0 else None)
    without_download = dataclasses.replace(environment, download=False)
    dataset = run_on_all_ranks(lambda: _load_dataset(spec, without_download, workers))
    run_on_rank_zero(lambda: _check_backbone(spec, dataset, environment))
    run_on_all_ranks(lambda: _check_compute(spec, environment))
    writer = run_on_all_ranks(open_writer)
    finished = run_on_rank_zero(lambda: writer if isinstance(writer, Path) else None)
    if finished is not None:
        return finished
    assert not isinstance(writer, Path), "a finished run has returned"
    train_recorded_run(spec, dataset, environment, writer, callbacks)
    return run_on_rank_zero(lambda: _folder(writer))


def _folder(writer: RunWriter | None) -> Path:
    assert writer is not None, "rank 0 has the writer"
    return writer.folder


def _load_dataset(spec: RunSpec, environment: Environment, workers: tuple[int, int]) -> Dataset:
    """Load the data set, and check that the run can be shared by so many workers, from the fewest to the most."""
    import numpy as np

    from mcl_ray.config.parallelism import most_batch_parts
    from mcl_ray.data.sampling import check_batches
    from mcl_ray.data.source import dataset_for

    batch_parts = most_batch_parts(spec, environment.parallelism, workers)
    dataset = dataset_for(spec, environment)
    check_batches(np.bincount(dataset.train.labels), spec.batch, batch_parts)
    return dataset


def _check_backbone(spec: RunSpec, dataset: Dataset, environment: Environment) -> None:
    """Check that the networks to freeze exist and are those of the spec, before a run is created."""
    if environment.backbone is not None:
        from mcl_ray.training.build import cohort_of

        cohort_of(spec, dataset.num_classes, dataset.image_shape[0], environment.backbone)


def _check_compute(spec: RunSpec, environment: Environment) -> None:
    """Check that this process can compute the networks as the run asks for, before a run is created."""
    if spec.compute.peers != "apart":
        from mcl_ray.training.build import check_stacked_peers

        check_stacked_peers(spec)
    if spec.compute.compile != "off":
        from mcl_ray.training.build import choose_device
        from mcl_ray.training.compilation import check_compilation

        check_compilation(spec.compute, choose_device(environment.device))


def _create(spec: RunSpec, environment: Environment) -> RunWriter:
    from mcl_ray.results.store import RunWriter
    from mcl_ray.training.recorded_run import machine_provenance

    return RunWriter.create(environment.results, spec, provenance=machine_provenance(environment))


def _resume(
    spec: RunSpec, dataset: Dataset, environment: Environment, callbacks: Sequence[RunCallback]
) -> RunWriter | Path:
    """Return a writer of the next attempt of this spec's newest run; its folder if it is finished."""
    from mcl_ray.results.store import RunWriter

    folder = _find_resumable(spec, dataset, environment)
    if _is_done(folder, callbacks):
        return folder
    from mcl_ray.training.recorded_run import machine_provenance

    return RunWriter.resume(folder, provenance=machine_provenance(environment))


def _find_resumable(spec: RunSpec, dataset: Dataset, environment: Environment) -> Path:
    """Return the folder of this spec's newest run, which is finished or has checkpoints to resume from."""
    from mcl_ray.results.remote import pull
    from mcl_ray.results.store import find_run, is_finished

    runs = environment.results / "runs"
    pull.fetch(runs, only=lambda run: any(digest in run for digest in spec.digests))
    folder = find_run(environment.results, spec)
    if folder is None:
        raise StoreError(
            f"only a run that was started can be resumed, but {pull.display_path(runs)} has none of spec {spec.digest}"
        )
    if not is_finished(folder):
        from mcl_ray.training.recorded_run import check_resumable

        pull.fetch(folder, checkpoints=True)
        check_resumable(spec, dataset, folder / "checkpoints")
    return folder


def _is_done(folder: Path, callbacks: Sequence[RunCallback]) -> bool:
    """Return whether a run is finished, and send a message if so."""
    from mcl_ray.results.remote.pull import display_path
    from mcl_ray.results.store import is_finished

    if is_finished(folder):
        notify(callbacks, "on_status", f"nothing left to do: {display_path(folder)} is finished")
        return True
    return False
