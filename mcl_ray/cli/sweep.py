"""The front door of a search, `python -m mcl_ray.sweep digits trials=40`, and of a suite, `… sweep table digits`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from mcl_ray.cli import app
from mcl_ray.config.execution import DEFAULT_EXECUTION, ExecutionOptions
from mcl_ray.errors import SpecError

if TYPE_CHECKING:
    from searches.spec.experiment import Experiment
    from searches.spec.suite import SuiteSpec
    from searches.spec.sweep import SweepSpec
    from searches.sweep_runner import SweepRunner


def sweep(
    name: str | None = None,
    /,
    *overrides: Annotated[str, Parameter(help=app.OVERRIDES_HELP)],
    execution: app.Options = DEFAULT_EXECUTION,
    download: bool = False,
    resume: str | None = None,
    dry_run: bool = False,
) -> None:
    """Search for the best configuration on Ray Tune with Optuna.

    Args:
        name: A search (`mcl searches` lists them), or a search file ending in .yaml.
        download: Fetch the data set if it is missing.
        resume: Go on with this sweep, by its id or `latest`, instead of starting one. A name and overrides may be given
            too: they may add trials, time or checkpoints that stay; any other difference is printed, and refused.
        dry_run: Print the resolved search and what it would do, without doing it.
    """
    session = _session(execution, download=download)
    if resume is not None:
        session.resume(resume, partial(_asked, resolve, name, overrides), dry_run=dry_run)
    elif name is None:
        raise SpecError("a search has a name or a file (`mcl searches` lists the names), but none was given")
    else:
        _begin(session, resolve(name, overrides), dry_run=dry_run)


def table(
    name: str | None = None,
    /,
    *overrides: Annotated[str, Parameter(help=app.OVERRIDES_HELP)],
    execution: app.Options = DEFAULT_EXECUTION,
    download: bool = False,
    resume: str | None = None,
    dry_run: bool = False,
) -> None:
    """Train every row of a published table on Ray Tune, and print the table with ours in it.

    Args:
        name: A suite (`mcl suites` lists them), or a suite file ending in .yaml. Overrides are of every row; a list for
            rows takes those it names, rows=[resnet32_*,wrn_16_2_x4]. What follows, of moco, has its name before its own
            fields: lincls.lr=10.
        download: Fetch the data set if it is missing.
        resume: Go on with this suite, by its id or `latest`, instead of starting one. A name and overrides may be given
            too: any difference is printed, and refused.
        dry_run: Print the resolved suite and what it would cost, without doing it.
    """
    session = _session(execution, download=download)
    if resume is not None:
        session.resume(resume, partial(_asked, resolve_suite, name, overrides), dry_run=dry_run)
    elif name is None:
        raise SpecError("a suite has a name or a file (`mcl suites` lists the names), but none was given")
    else:
        _begin(session, resolve_suite(name, overrides), dry_run=dry_run)


def extend(
    sweep_id: str,
    /,
    *,
    trials: Annotated[int, Parameter(validator=app.at_least_one)],
    execution: app.Options = DEFAULT_EXECUTION,
) -> None:
    """Give a sweep, finished or not, more trials, and go on with it.

    Args:
        sweep_id: The sweep's id, or latest.
        trials: Trials beside those it has.
    """
    _session(execution).resume(sweep_id, partial(_extended, trials=trials))


def retry(
    sweep_id: str,
    /,
    *,
    failed: Annotated[bool, Parameter(help="Which trials: those that failed. It must be given.")],
    execution: app.Options = DEFAULT_EXECUTION,
) -> None:
    """Try the failed trials of a sweep again, from their last checkpoints, and go on with it.

    Args:
        sweep_id: The sweep's id, or latest.
    """
    assert failed, "there is no --no-failed"
    _session(execution).resume(sweep_id, retry=True)


def _begin(session: SweepRunner, asked: Experiment, *, dry_run: bool) -> None:
    if dry_run:
        session.print_plan(asked)
    else:
        session.start(asked)


def _session(execution: ExecutionOptions, *, download: bool = False) -> SweepRunner:
    from searches.sweep_runner import SweepRunner

    return SweepRunner(execution=execution, download=download, console=app.stdout())


def _extended(sweep: Experiment, trials: int) -> Experiment:
    from mcl_ray.config.overrides import replace
    from searches.spec.suite import SuiteSpec

    if isinstance(sweep, SuiteSpec):
        raise SpecError(f"a suite has one trial for each of its {sweep.trials} rows, but was asked for {trials} more")
    return replace(sweep, {"trials": sweep.trials + trials})


def _asked(
    named: Callable[[str, tuple[str, ...]], Experiment], name: str | None, overrides: tuple[str, ...], sweep: Experiment
) -> Experiment:
    """What a sweep that goes on is asked to be: what the command names, or itself; with fields replaced."""
    from mcl_ray.config.overrides import parse, replace
    from searches.spec.suite import SuiteSpec

    if name is None:
        return sweep
    if "=" not in name:
        return named(name, overrides)
    if isinstance(sweep, SuiteSpec):
        return _with_fields(sweep, (name, *overrides))
    return replace(sweep, parse(type(sweep), (name, *overrides)))


def resolve(name: str, overrides: tuple[str, ...]) -> SweepSpec:
    """The search of this name with fields replaced.

    Raises:
        SpecError: a rule is broken, or a field that is searched was given one value.
    """
    from mcl_ray.config.overrides import parse, replace
    from mcl_ray.config.unused_fields import check_used
    from searches.spec import search_registry
    from searches.spec.sweep import SweepSpec

    values = parse(SweepSpec, overrides)
    spec = replace(search_registry.load(name), values)
    if values.get("run.evaluation.test", "never") != "never":
        raise SpecError(
            "a search reads the test images once, at its end, for the best configuration: run.evaluation.test=never "
            f"must hold, but got {values['run.evaluation.test']}"
        )
    check_used(spec.run, [path.removeprefix("run.") for path in values if path.startswith("run.")])
    for path in (path.removeprefix("run.") for path in values if path.startswith("run.")):
        if path in spec.space:
            raise SpecError(f"{path} is searched; space.{path}=null takes it out, so that it can have one value")
    return spec


def resolve_suite(name: str, overrides: tuple[str, ...]) -> SuiteSpec:
    """The suite of this name with fields replaced, those of the run in every row.

    Raises:
        SpecError: a rule is broken.
    """
    from searches.spec import suite_registry

    return _with_fields(suite_registry.load(name), overrides)


def _with_fields(suite: SuiteSpec, overrides: tuple[str, ...]) -> SuiteSpec:
    """The suite with fields replaced; those of what follows have its name before them, or `then`: `lincls.lr=1`."""
    from mcl_ray.config.overrides import parse
    from mcl_ray.config.spec import RunSpec
    from mcl_ray.config.unused_fields import check_used, check_used_by_any
    from mcl_ray.pipeline import by_stage
    from searches.spec.suite import SuiteSpec

    first, follows = suite.run.recipe, suite.then.recipe if suite.then else ""
    stages = [first, *(name for name in (follows, "then") if suite.then and name != first)]
    own = by_stage(stages, overrides)
    values = parse(SuiteSpec, own.pop(first))
    following = parse(RunSpec, [given for stage in own.values() for given in stage])
    changed = suite.with_fields(values, following)
    own_paths = [path.removeprefix("run.") for path in values if path.startswith("run.")]
    check_used_by_any([changed.trial_run(point) for point in changed.first_points], own_paths)
    if changed.then is not None:
        check_used(changed.then, following)
    return changed


def program(name: str) -> App:
    """`sweep` itself, with `table`, `extend` and `retry` below it."""
    made = app.new_app(name)
    made.default(sweep)
    made.command(table)
    made.command(extend)
    made.command(retry)
    return made


command = program("sweep")
"""What the console script `mcl` finds here."""
