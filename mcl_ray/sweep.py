"""The front door of a search: `python -m mcl_ray.sweep digits trials=40`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from mcl_ray import doors
from mcl_ray.errors import SpecError
from mcl_ray.overrides import parse, replace
from mcl_ray.place import HERE, Place

if TYPE_CHECKING:
    from searches.session import SweepSession
    from searches.spec import SweepSpec


def sweep(
    name: str | None = None,
    /,
    *overrides: Annotated[str, Parameter(help=doors.OVERRIDES_HELP)],
    place: doors.Options = HERE,
    download: bool = False,
    resume: str | None = None,
    dry_run: bool = False,
) -> None:
    """Search for the best configuration on Ray Tune with Optuna.

    Args:
        name: A search (`mcl searches` lists them), or a search file ending in .yaml.
        download: Fetch the data set if it is missing.
        resume: Go on with this sweep, by its id or `latest`, instead of starting one. A name and overrides may be given
            too: they may add trials or time; any other difference is printed, and refused.
        dry_run: Print the resolved search and what it would do, without doing it.
    """
    session = _session(place, download=download)
    if resume is not None:
        session.resume(resume, partial(_asked, name=name, overrides=overrides), dry_run=dry_run)
    elif name is None:
        raise SpecError("a search has a name or a file (`mcl searches` lists the names), but none was given")
    elif dry_run:
        session.print_plan(resolve(name, overrides))
    else:
        session.start(resolve(name, overrides))


def extend(
    sweep_id: str,
    /,
    *,
    trials: Annotated[int, Parameter(validator=doors.at_least_one)],
    place: doors.Options = HERE,
) -> None:
    """Give a sweep, finished or not, more trials, and go on with it.

    Args:
        sweep_id: The sweep's id, or latest.
        trials: Trials beside those it has.
    """
    _session(place).resume(sweep_id, lambda sweep: replace(sweep, {"trials": sweep.trials + trials}))


def retry(
    sweep_id: str,
    /,
    *,
    failed: Annotated[bool, Parameter(help="Which trials: those that failed. It must be given.")],
    place: doors.Options = HERE,
) -> None:
    """Try the failed trials of a sweep again, from their last checkpoints, and go on with it.

    Args:
        sweep_id: The sweep's id, or latest.
    """
    assert failed, "there is no --no-failed"
    _session(place).resume(sweep_id, retry=True)


def _session(place: Place, *, download: bool = False) -> SweepSession:
    from searches.session import SweepSession

    return SweepSession(place=place, download=download, console=doors.stdout())


def _asked(sweep: SweepSpec, name: str | None, overrides: tuple[str, ...]) -> SweepSpec:
    """What a sweep that goes on is asked to be: what the command names, or itself; with fields replaced."""
    if name is None:
        return sweep
    if "=" in name:
        from searches.spec import SweepSpec

        return replace(sweep, parse(SweepSpec, (name, *overrides)))
    return resolve(name, overrides)


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


def program(name: str) -> App:
    """`sweep` itself, with `extend` and `retry` below it."""
    made = doors.new_app(name)
    made.default(sweep)
    made.command(extend)
    made.command(retry)
    return made


app = program("sweep")
"""What the console script `mcl` finds here."""

if __name__ == "__main__":
    doors.main(program("python -m mcl_ray.sweep"))
