"""The front door of a search: `python -m mcl_ray.sweep digits trials=40`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mcl_ray import doors
from mcl_ray.environment import Environment
from mcl_ray.errors import SpecError
from mcl_ray.overrides import parse, replace

if TYPE_CHECKING:
    from searches.spec import SweepSpec


def sweep(
    name: str | None = None,
    /,
    *overrides: Annotated[str, Parameter(help=doors.OVERRIDES_HELP)],
    results: Path = Environment.results,
    data: Path = Environment.data,
    download: bool = False,
    device: str = Environment.device,
    cpus_per_trial: Annotated[int, Parameter(validator=doors.at_least_one)] = 1,
    gpus_per_trial: Annotated[float | None, Parameter(validator=doors.not_negative)] = None,
    resume: str | None = None,
    dry_run: bool = False,
) -> None:
    """Search for the best configuration on Ray Tune with Optuna.

    Args:
        name: A search (`mcl searches` lists them), or a search file ending in .yaml.
        results: Folder that holds every run and sweep.
        data: The data set's archive, or the folder that holds it.
        download: Fetch the data set if it is missing.
        device: auto, cpu, cuda, or one CUDA device as cuda:1.
        cpus_per_trial: CPU cores of one trial, and its threads.
        gpus_per_trial: GPUs of one trial, 0.5 for two trials on one; one where there are any, if not given.
        resume: Go on with this sweep (its id) instead of starting one; name and overrides stay away.
        dry_run: Print the resolved search and what it would do, without doing it.
    """
    from searches.session import SweepSession

    environment = Environment(
        results=results.absolute(), data=data.absolute(), download=download, device=device, threads=cpus_per_trial
    )
    session = SweepSession(environment, cpus_per_trial, gpus_per_trial, doors.stdout())
    if resume is not None:
        if name or overrides:
            raise SpecError(f"a resumed sweep keeps its spec: give --resume {resume} without a name and overrides")
        session.resume(resume)
    elif name is None:
        raise SpecError("a search has a name or a file (`mcl searches` lists the names), but none was given")
    elif dry_run:
        session.print_plan(resolve(name, overrides))
    else:
        session.start(resolve(name, overrides))


def resolve(name: str, overrides: tuple[str, ...]) -> SweepSpec:
    """The search of this name with fields replaced.

    Raises:
        SpecError: a rule is broken, or a field that is searched was given one value.
    """
    from searches import catalog
    from searches.spec import SweepSpec

    values = parse(SweepSpec, overrides)
    spec = replace(catalog.load(name), values)
    for path in (path.removeprefix("run.") for path in values if path.startswith("run.")):
        if path in spec.space:
            raise SpecError(f"{path} is searched; space.{path}=null takes it out, so that it can have one value")
    return spec


if __name__ == "__main__":
    doors.door(sweep)
