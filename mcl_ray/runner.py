"""One run as a front door drives it: alone, together with the other workers of torchrun, or on Ray.

What is to be trained is settled before; every way returns the folder of a run that is finished.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from mcl_ray.cli import app
from mcl_ray.config.environment import Environment
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import StoreError
from mcl_ray.torchrun import TorchrunEnv, report_rank_errors

if TYPE_CHECKING:
    from mcl_ray.data.dataset import Dataset
    from mcl_ray.results.store import RunWriter


def run_local(spec: RunSpec, environment: Environment, *, resume: bool) -> Path:
    """Train in this process."""
    from mcl_ray.data.source import dataset_for
    from mcl_ray.results.store import open_results

    open_results(environment)
    dataset = dataset_for(spec, environment)
    _check_backbone(spec, dataset, environment)
    opened = _resumed(spec, dataset, environment) if resume else _new(spec, environment)
    return opened if isinstance(opened, Path) else _train(spec, dataset, environment, opened)


def run_on_ray(spec: RunSpec, execution: ExecutionOptions, environment: Environment, *, resume: bool) -> Path:
    """As `alone`, with the loop in workers that Ray starts, and starts again when one dies."""
    from mcl_ray.results.store import open_results

    open_results(environment)
    workers = execution.group or (1, 1)
    dataset = _dataset(spec, environment, workers[1])
    _check_backbone(spec, dataset, environment)
    folder = _begun(spec, dataset, environment) if resume else None
    if folder is not None and _is_done(folder):
        return folder
    from trainables.run_on_ray import train_on_ray

    console = app.stdout()
    console.print(execution.ray)
    with _hint_at_resume(console):
        folder = train_on_ray(spec, execution, environment, folder, console)
    _print_summary(folder, console)
    return folder


@contextmanager
def joined_group(worker: TorchrunEnv, environment: Environment) -> Iterator[Environment]:
    """The environment of this worker of torchrun, while it is in one group with the others; once for all that is done.

    torch leaves in its store what told the workers of a first group, and a second one may take it for its own.
    """
    if worker.world_size == 1:
        yield environment
        return
    from mcl_ray.distributed import group
    from mcl_ray.training.build import choose_device

    environment = dataclasses.replace(environment, device=worker.device(environment.device))
    with group(worker.rank, worker.world_size, choose_device(environment.device)), report_rank_errors(worker.rank):
        yield environment


def run_distributed(spec: RunSpec, environment: Environment, worker: TorchrunEnv, *, resume: bool) -> Path:
    """As `alone`, with the folder and the console left to the first worker; what one cannot do ends all."""
    from mcl_ray.distributed import run_on_all_ranks, run_on_rank_zero
    from mcl_ray.results.store import open_results
    from mcl_ray.training.recorded_run import train_run

    def opened() -> RunWriter | Path | None:
        if worker.rank > 0:
            return None
        return _resumed(spec, dataset, environment) if resume else _new(spec, environment)

    run_on_rank_zero(lambda: open_results(environment))
    if environment.download:  # one worker on each machine fetches, for all of it
        run_on_all_ranks(lambda: _dataset(spec, environment, worker.world_size) if worker.local_rank == 0 else None)
    dataset = run_on_all_ranks(
        lambda: _dataset(spec, dataclasses.replace(environment, download=False), worker.world_size)
    )
    run_on_rank_zero(lambda: _check_backbone(spec, dataset, environment))
    writer = run_on_all_ranks(opened)
    done = run_on_rank_zero(lambda: writer if isinstance(writer, Path) else None)
    if done is not None:
        return done
    if writer is None:
        train_run(spec, dataset, environment, None)
    else:
        assert not isinstance(writer, Path), "it would be done"
        _train(spec, dataset, environment, writer)
    return run_on_rank_zero(lambda: _folder(writer))


def _folder(writer: RunWriter | Path | None) -> Path:
    assert writer is not None, "the first worker has one"
    return writer if isinstance(writer, Path) else writer.folder


def _dataset(spec: RunSpec, environment: Environment, num_workers: int) -> Dataset:
    """The data set, known to serve the batches of so many workers."""
    import numpy as np

    from mcl_ray.data.sampling import check_batches
    from mcl_ray.data.source import dataset_for

    dataset = dataset_for(spec, environment)
    check_batches(np.bincount(dataset.train.labels), spec.batch, num_workers)
    return dataset


def _check_backbone(spec: RunSpec, dataset: Dataset, environment: Environment) -> None:
    """Whether the networks that are to be frozen are there, and those of the spec, asked before there is a run."""
    if environment.backbone is not None:
        from mcl_ray.training.build import cohort_of

        cohort_of(spec, dataset.num_classes, dataset.image_shape[0], environment.backbone)


def _new(spec: RunSpec, environment: Environment) -> RunWriter:
    from mcl_ray.results.store import RunWriter
    from mcl_ray.training.recorded_run import machine_provenance

    return RunWriter.create(environment.results, spec, facts=machine_provenance(environment))


def _resumed(spec: RunSpec, dataset: Dataset, environment: Environment) -> RunWriter | Path:
    """The newest run of this spec, gone on with; its folder, if it is finished."""
    from mcl_ray.results.store import RunWriter

    folder = _begun(spec, dataset, environment)
    if _is_done(folder):
        return folder
    from mcl_ray.training.recorded_run import machine_provenance

    return RunWriter.resume(folder, facts=machine_provenance(environment))


def _begun(spec: RunSpec, dataset: Dataset, environment: Environment) -> Path:
    """The newest run of this spec, known to be able to go on."""
    from mcl_ray.results.remote import pull
    from mcl_ray.results.store import find_run, is_finished

    runs = environment.results / "runs"
    pull.fetch(runs, only=lambda run: spec.digest in run)
    folder = find_run(environment.results, spec)
    if folder is None:
        runs_shown = pull.display_path(runs)
        raise StoreError(f"only a run that was begun can be resumed, but {runs_shown} has none of spec {spec.digest}")
    if not is_finished(folder):
        from mcl_ray.training.recorded_run import check_resumable

        pull.fetch(folder, checkpoints=True)
        check_resumable(spec, dataset, folder / "checkpoints")
    return folder


def _is_done(folder: Path) -> bool:
    """Whether a run is finished, which is said aloud."""
    from mcl_ray.results.remote.pull import display_path
    from mcl_ray.results.store import is_finished

    if is_finished(folder):
        app.stdout().print(f"nothing left to do: {display_path(folder)} is finished", soft_wrap=True)
        return True
    return False


def _train(spec: RunSpec, dataset: Dataset, environment: Environment, writer: RunWriter) -> Path:
    from mcl_ray.reports.progress import RunProgress
    from mcl_ray.results.remote.pull import display_path
    from mcl_ray.training.recorded_run import train_run

    console = app.stdout()
    console.print(f"run {writer.run_id}, attempt {writer.attempt}, in {display_path(writer.folder)}", soft_wrap=True)
    with _hint_at_resume(console), RunProgress(spec, console) as progress:
        train_run(spec, dataset, environment, writer, progress.epoch, progress.step)
    _print_summary(writer.folder, console)
    return writer.folder


@contextmanager
def _hint_at_resume(console: Console) -> Iterator[None]:
    """Say, after Ctrl-C, that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("interrupted; the same command with --resume goes on from the last finished epoch")
        raise


def _print_summary(folder: Path, console: Console) -> None:
    from mcl_ray.analysis.ranking import summary
    from mcl_ray.reports.terminal import summary_table
    from mcl_ray.results.remote.pull import display_path, fetch
    from mcl_ray.results.store import read_epochs, read_runs, read_unreadable

    fetch(folder)
    console.print(summary_table(summary(read_runs(folder), read_epochs(folder))))
    if unreadable := read_unreadable(folder):
        told = f"images skipped, as they do not decode: {len(unreadable)}"
        console.print(f"{told}, named in {display_path(folder)}/unreadable.json", soft_wrap=True)
    console.print(f"figures and checkpoints: {display_path(folder)}", soft_wrap=True)
    console.print(f"plots: {shlex.join(['python', '-m', 'mcl_ray.report', display_path(folder)])}", soft_wrap=True)
