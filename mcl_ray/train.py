"""The front door of a single run: `python -m mcl_ray.train digits epochs=5`.

Several workers share it, each with its part of every batch: on Ray with `--workers 2`, and without Ray by
`torchrun --nproc-per-node 2 -m mcl_ray.train digits`.
"""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console

from mcl_ray import doors, recipes
from mcl_ray.environment import Environment
from mcl_ray.errors import StoreError, UserError
from mcl_ray.launch import Launch, launch, one_voice, own_errors_aloud
from mcl_ray.overrides import parse, replace
from mcl_ray.place import HERE, Place
from mcl_ray.spec import RunSpec

if TYPE_CHECKING:
    from mcl_ray.data.dataset import Dataset
    from mcl_ray.results.store import RunWriter


def train(
    name: str,
    /,
    *overrides: Annotated[str, Parameter(help=doors.OVERRIDES_HELP)],
    place: doors.Options = HERE,
    download: bool = False,
    threads: int | None = None,
    resume: bool = False,
    dry_run: bool = False,
) -> None:
    """Train one cohort.

    Args:
        name: A recipe (`mcl recipes` lists them), or a spec file ending in .yaml.
        download: Fetch the data set if it is missing.
        threads: CPU threads inside one operation, without Ray; torch's own choice if not given.
        resume: Go on with the newest run of this spec where it stopped.
        dry_run: Print the resolved spec and what it would do, without doing it.
    """
    spec = replace(recipes.load(name), parse(RunSpec, overrides))
    worker = launch()
    workers = _check(place, threads, worker)
    environment = place.alone(download=download, threads=threads)
    if dry_run:
        if worker.rank == 0:
            from mcl_ray.plan import print_run_plan

            print_run_plan(spec, environment, doors.stdout(), workers)
    elif _is_on_ray(place):
        _on_ray(spec, place, place.environment(download=download), resume=resume)
    else:
        (_alone if worker.world_size == 1 else _together)(spec, environment, worker, resume=resume)


def _is_on_ray(place: Place) -> bool:
    return place.workers is not None or place.address is not None


def _check(place: Place, threads: int | None, worker: Launch) -> tuple[int, int] | None:
    """Fewest and most workers, if there are to be any; options that would do nothing are errors.

    Raises:
        UserError: options contradict each other, or ask for what is not there.
    """
    if not _is_on_ray(place):
        if (place.cpus_per_worker, place.gpus_per_worker) != (HERE.cpus_per_worker, HERE.gpus_per_worker):
            raise UserError("--cpus-per-worker and --gpus-per-worker are of workers on Ray, but --workers is missing")
        return None if worker.world_size == 1 else (worker.world_size, worker.world_size)
    if worker.world_size > 1:
        raise UserError(
            f"workers come from torchrun or from Ray, but torchrun started {worker.world_size}, and --workers or "
            "--address asks Ray for some"
        )
    if threads is not None:
        raise UserError(f"the threads of workers on Ray are their --cpus-per-worker, but got --threads {threads}")
    place.check()
    return place.group or (1, 1)


def _alone(spec: RunSpec, environment: Environment, _: Launch, *, resume: bool) -> None:
    from mcl_ray.data.source import dataset_for
    from mcl_ray.results.store import open_results

    open_results(environment)
    dataset = dataset_for(spec, environment)
    writer = _resumed(spec, dataset, environment) if resume else _new(spec, environment)
    if writer is not None:
        _train(spec, dataset, environment, writer)


def _on_ray(spec: RunSpec, place: Place, environment: Environment, *, resume: bool) -> None:
    """As `_alone`, with the loop in workers that Ray starts, and starts again when one dies."""
    from mcl_ray.results.store import open_results

    open_results(environment)
    workers = place.group or (1, 1)
    dataset = _dataset(spec, environment, workers[1])
    folder = _unfinished(spec, dataset, environment) if resume else None
    if resume and folder is None:
        return
    from trainables.cluster import Resources
    from trainables.terminal import train_on_ray

    console, resources = doors.stdout(), Resources(cpus=place.cpus_per_worker, gpus=place.gpus_per_worker)
    console.print(place.ray)
    with _hint_at_resume(console):
        folder = train_on_ray(spec, environment, workers, resources, place.address, folder, console)
    _print_summary(folder, console)


def _together(spec: RunSpec, environment: Environment, worker: Launch, *, resume: bool) -> None:
    """As `_alone`, with the folder and the console left to the first worker; what one cannot do ends all."""
    from mcl_ray.distributed import from_first, group, together
    from mcl_ray.results.store import open_results
    from mcl_ray.training.placement import choose_device
    from mcl_ray.training.run import train_run

    environment = dataclasses.replace(environment, device=worker.device(environment.device))

    def opened() -> RunWriter | None:
        if worker.rank > 0:
            return None
        return _resumed(spec, dataset, environment) if resume else _new(spec, environment)

    with group(worker.rank, worker.world_size, choose_device(environment.device)), own_errors_aloud(worker.rank):
        from_first(lambda: open_results(environment))
        if environment.download:  # one worker on each machine fetches, for all of it
            together(lambda: _dataset(spec, environment, worker.world_size) if worker.local_rank == 0 else None)
        dataset = together(lambda: _dataset(spec, dataclasses.replace(environment, download=False), worker.world_size))
        writer = together(opened)
        if not from_first(lambda: writer is not None):
            return
        if writer is not None:
            _train(spec, dataset, environment, writer)
        else:
            train_run(spec, dataset, environment, None)


def _dataset(spec: RunSpec, environment: Environment, num_workers: int) -> Dataset:
    """The data set, known to serve the batches of so many workers."""
    import numpy as np

    from mcl_ray.data.sampling import check_batches
    from mcl_ray.data.source import dataset_for

    dataset = dataset_for(spec, environment)
    check_batches(np.bincount(dataset.train.labels), spec.batch, num_workers)
    return dataset


def _new(spec: RunSpec, environment: Environment) -> RunWriter:
    from mcl_ray.results.store import RunWriter
    from mcl_ray.training.run import machine_facts

    return RunWriter.create(environment.results, spec, facts=machine_facts(environment))


def _resumed(spec: RunSpec, dataset: Dataset, environment: Environment) -> RunWriter | None:
    from mcl_ray.results.store import RunWriter

    folder = _unfinished(spec, dataset, environment)
    if folder is None:
        return None
    from mcl_ray.training.run import machine_facts

    return RunWriter.resume(folder, facts=machine_facts(environment))


def _unfinished(spec: RunSpec, dataset: Dataset, environment: Environment) -> Path | None:
    """The newest run of this spec, to go on with; None, said aloud, if it is finished."""
    from mcl_ray.results import copies
    from mcl_ray.results.store import find_run, is_finished

    runs = environment.results / "runs"
    copies.fetch(runs, only=lambda run: spec.digest in run)
    folder = find_run(environment.results, spec)
    if folder is None:
        runs_shown = copies.shown(runs)
        raise StoreError(f"only a run that was begun can be resumed, but {runs_shown} has none of spec {spec.digest}")
    if is_finished(folder):
        doors.stdout().print(f"nothing left to do: {copies.shown(folder)} is finished", soft_wrap=True)
        return None
    from mcl_ray.training.run import check_resumable

    copies.fetch(folder, checkpoints=True)
    check_resumable(spec, dataset, folder / "checkpoints")
    return folder


def _train(spec: RunSpec, dataset: Dataset, environment: Environment, writer: RunWriter) -> None:
    from mcl_ray.progress import RunProgress
    from mcl_ray.results.copies import shown
    from mcl_ray.training.run import train_run

    console = doors.stdout()
    console.print(f"run {writer.run_id}, attempt {writer.attempt}, in {shown(writer.folder)}", soft_wrap=True)
    with _hint_at_resume(console), RunProgress(spec, console) as progress:
        train_run(spec, dataset, environment, writer, progress.epoch, progress.step)
    _print_summary(writer.folder, console)


@contextmanager
def _hint_at_resume(console: Console) -> Iterator[None]:
    """Say, after Ctrl-C, that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("interrupted; the same command with --resume goes on from the last finished epoch")
        raise


def _print_summary(folder: Path, console: Console) -> None:
    from mcl_ray.results.copies import fetch, shown
    from mcl_ray.results.store import read_epochs, read_runs
    from mcl_ray.results.tables import summary
    from mcl_ray.results.text import summary_table

    fetch(folder)
    console.print(summary_table(summary(read_runs(folder), read_epochs(folder))))
    console.print(f"figures and checkpoints: {shown(folder)}", soft_wrap=True)
    console.print(f"plots: {shlex.join(['python', '-m', 'mcl_ray.report', shown(folder)])}", soft_wrap=True)


if __name__ == "__main__":
    with one_voice():
        doors.door(train)
