"""A run that a group of workers trains under Ray Train, started by the driver, whose callbacks receive its events."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

from mcl_ray.callbacks import RunCallback, RunEnd, notify
from mcl_ray.config.environment import Environment
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import ClusterLostError, MclError, StoreError
from mcl_ray.object_store import Uri
from mcl_ray.results.remote.pull import fetch
from mcl_ray.results.schema import RunState
from mcl_ray.results.store import RunWriter, is_run, read_runs, state_of
from trainables.cluster.connect import bundle, connect, fits
from trainables.cluster.node_plugins import check_plugins
from trainables.cluster.shared_storage import check_shared
from trainables.cluster.signals import interruptible
from trainables.event_channel import EventReceiver
from trainables.pending_workers import report_pending_workers
from trainables.torch_trainer import RAY_FOLDER, Group
from trainables.train_worker import train_run


def train_on_ray(
    spec: RunSpec,
    execution: ExecutionOptions,
    environment: Environment,
    folder: Path | None,
    callbacks: Sequence[RunCallback] = (),
) -> Path:
    """Train a run in a group of workers of its own.

    Args:
        spec: What to train.
        execution: The Ray, and the number of workers.
        environment: Environment of each worker; its paths are absolute.
        folder: Folder of the run to resume; None starts a new one.
        callbacks: Receive the events of the run, in a thread of this process, and status messages.

    Returns:
        The run's folder.

    Raises:
        UserError: the cluster cannot be joined, or the workers do not fit, or a node does not see the same files;
            nothing has been written.
        TrainingError: the run cannot continue; recorded as failed.
        ClusterLostError: the local Ray ended; recorded as interrupted.
        KeyboardInterrupt: a user pressed Ctrl-C; recorded as interrupted.
    """
    fewest, most = execution.group or (1, 1)
    on_status = partial(notify, callbacks, "on_status")
    with connect(execution, on_status):
        group = Group(fewest=fewest, most=most, bundle=bundle(execution))
        fits(group.bundle, fewest, most)
        check_shared(environment, environment.results, _files_to_read(spec, environment))
        check_plugins(spec.plugins)
        if folder is None:
            folder = RunWriter.claim(environment.results, spec)
        on_status(f"starting {group} for run {folder.name}")
        train_in_group(spec, environment, group, folder, callbacks)
    return folder


def _files_to_read(spec: RunSpec, environment: Environment) -> list[Path | Uri]:
    backbone = [environment.backbone] if environment.backbone else []
    data = [environment.data] if spec.data.reads_files else []
    return [*backbone, *data]


def train_in_group(
    spec: RunSpec,
    environment: Environment,
    group: Group,
    folder: Path,
    callbacks: Sequence[RunCallback] = (),
) -> None:
    """Train the run in `folder`, which is claimed or was started before.

    Args:
        spec: What to train.
        environment: Environment of each worker; its paths are absolute, and every node sees them.
        group: The workers.
        folder: The run's folder.
        callbacks: Receive the events of the run, in a thread of this process.

    Raises:
        MclError: the run cannot continue; recorded as failed.
        KeyboardInterrupt: a user pressed Ctrl-C; recorded as interrupted.
        Exception: what a callback with `must_succeed` raised; the run is recorded as failed.
    """
    try:
        _train(spec, environment, group, folder, callbacks)
    except BaseException as error:
        _record(folder, spec, error)
        _send_run_end(folder, callbacks, error)
        raise
    finally:
        with contextlib.suppress(OSError):
            (folder / RAY_FOLDER).rmdir()
    _send_run_end(folder, callbacks, None)


def _train(
    spec: RunSpec, environment: Environment, group: Group, folder: Path, callbacks: Sequence[RunCallback]
) -> None:
    receiver = EventReceiver(callbacks, folder)
    work = partial(train_run, spec, environment, folder, (receiver.sender,))
    try:
        with receiver, report_pending_workers(group, receiver.on_status), interruptible():
            group.train(work, folder, folder.name)
    except MclError as error:
        if receiver.error is not None:  # why the worker ended the run
            raise receiver.error from error
        raise
    if receiver.error is not None:
        raise receiver.error


def _record(folder: Path, spec: RunSpec, error: BaseException) -> None:
    """Record how the run ended, which a worker that was killed could not do itself."""
    may_resume = isinstance(error, StoreError | ClusterLostError) or not isinstance(error, Exception)
    state: RunState = "interrupted" if may_resume else "failed"
    fetch(folder)
    (row,) = read_runs(folder).to_pylist() if is_run(folder) else [{}]
    if (row.get("state"), row.get("error_type")) == (state, type(error).__name__):
        return
    if row.get("state") == "finished" and not isinstance(error, MclError | KeyboardInterrupt):
        return  # a callback failed after the last epoch
    with contextlib.suppress(StoreError):  # the error itself matters more
        RunWriter.begin(folder.parents[1], folder.name, spec).finish(state, error)


def _send_run_end(folder: Path, callbacks: Sequence[RunCallback], error: BaseException | None) -> None:
    fetch(folder)
    state = cast("RunState", state_of(folder)) if is_run(folder) else "interrupted"
    notify(callbacks, "on_run_end", RunEnd(run_id=folder.name, folder=folder, state=state, error=error))
