"""The front door of a single run: `python -m mcl_ray.train digits epochs=5`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mcl_ray import doors, recipes
from mcl_ray.environment import Environment
from mcl_ray.errors import StoreError
from mcl_ray.overrides import parse, replace
from mcl_ray.spec import RunSpec

if TYPE_CHECKING:
    from mcl_ray.data.dataset import Dataset
    from mcl_ray.results.store import RunWriter


def train(
    name: str,
    /,
    *overrides: Annotated[str, Parameter(help=doors.OVERRIDES_HELP)],
    results: Path = Environment.results,
    data: Path = Environment.data,
    download: bool = False,
    device: str = Environment.device,
    threads: int | None = None,
    resume: bool = False,
    dry_run: bool = False,
) -> None:
    """Train one cohort.

    Args:
        name: A recipe (`mcl recipes` lists them), or a spec file ending in .yaml.
        results: Folder that holds every run and sweep.
        data: The data set's archive, or the folder that holds it.
        download: Fetch the data set if it is missing.
        device: auto, cpu, cuda, or one CUDA device as cuda:1.
        threads: CPU threads inside one operation; torch's own choice if not given.
        resume: Go on with the newest run of this spec where it stopped.
        dry_run: Print the resolved spec and what it would do, without doing it.
    """
    spec = replace(recipes.load(name), parse(RunSpec, overrides))
    environment = Environment(results=results, data=data, download=download, device=device, threads=threads)
    if dry_run:
        from mcl_ray.plan import print_run_plan

        print_run_plan(spec, environment, doors.stdout())
        return
    from mcl_ray.data.source import dataset_for
    from mcl_ray.results.store import check_writable

    check_writable(results)
    dataset = dataset_for(spec, data, download=download)
    writer = _resumed(spec, dataset, environment) if resume else _new(spec, environment)
    if writer is not None:
        _train(spec, dataset, environment, writer)


def _new(spec: RunSpec, environment: Environment) -> RunWriter:
    from mcl_ray.results.store import RunWriter
    from mcl_ray.training.run import machine_facts

    return RunWriter.create(environment.results, spec, facts=machine_facts(environment))


def _resumed(spec: RunSpec, dataset: Dataset, environment: Environment) -> RunWriter | None:
    """The newest run of this spec, to go on with; None, said aloud, if it is finished."""
    from mcl_ray.results.store import RunWriter, find_run, is_finished

    folder = find_run(environment.results, spec)
    if folder is None:
        runs = environment.results / "runs"
        raise StoreError(f"only a run that was begun can be resumed, but {runs} has none of spec {spec.digest}")
    if is_finished(folder):
        doors.stdout().print(f"nothing left to do: {folder} is finished", soft_wrap=True)
        return None
    from mcl_ray.training.run import check_resumable, machine_facts

    check_resumable(spec, dataset, folder / "checkpoints")
    return RunWriter.resume(folder, facts=machine_facts(environment))


def _train(spec: RunSpec, dataset: Dataset, environment: Environment, writer: RunWriter) -> None:
    from mcl_ray.progress import RunProgress
    from mcl_ray.results.store import read_epochs, read_runs
    from mcl_ray.results.tables import summary
    from mcl_ray.results.text import summary_table
    from mcl_ray.training.run import train_run

    console = doors.stdout()
    console.print(f"run {writer.run_id}, attempt {writer.attempt}, in {writer.folder}", soft_wrap=True)
    try:
        with RunProgress(spec, console) as progress:
            train_run(spec, dataset, environment, writer, progress.epoch, progress.step)
    except KeyboardInterrupt:
        console.print("interrupted; the same command with --resume goes on from the last finished epoch")
        raise
    console.print(summary_table(summary(read_runs(writer.folder), read_epochs(writer.folder))))
    console.print(f"figures and checkpoints: {writer.folder}", soft_wrap=True)
    console.print(f"plots: python -m mcl_ray.report {writer.folder}", soft_wrap=True)


if __name__ == "__main__":
    doors.door(train)
