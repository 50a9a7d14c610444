"""The commands of searches, `python -m mcl_ray.sweep digits trials=40`, and of suites, `… sweep table digits`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from mcl_ray.cli import app
from mcl_ray.config.execution import DEFAULT_EXECUTION, ExecutionOptions
from mcl_ray.errors import SpecError

if TYPE_CHECKING:
    from mcl_ray.sdk.tuner import CohortTuner


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
        resume: Resume this sweep, by its id or `latest`, instead of starting one. A name and overrides may be given,
            too: they may add trials, time or checkpoints that are kept; any other difference is refused.
        dry_run: Print the resolved search and its estimated cost, without running it.
    """
    from mcl_ray.sdk.tuner import CohortTuner

    keywords = _keywords(execution, download=download)
    if resume is not None:
        _resume(resume, name, overrides, keywords, execution, is_suite=False, dry_run=dry_run)
    elif name is None:
        raise SpecError("a search has a name or a file (`mcl searches` lists the names), but none was given")
    else:
        _run(CohortTuner(name, overrides=overrides, **keywords), execution, dry_run=dry_run)


def table(
    name: str | None = None,
    /,
    *overrides: Annotated[str, Parameter(help=app.OVERRIDES_HELP)],
    execution: app.Options = DEFAULT_EXECUTION,
    download: bool = False,
    resume: str | None = None,
    dry_run: bool = False,
) -> None:
    """Train every row of a published table on Ray Tune, and print the table with our results in it.

    Args:
        name: A suite (`mcl suites` lists them), or a suite file ending in .yaml. Overrides apply to every row; a list
            for rows selects those it names, rows=[resnet32_*,wrn_16_2_x4]. Fields of the suite that follows, of moco,
            have its name before them: lincls.lr=10.
        download: Fetch the data set if it is missing.
        resume: Resume this suite, by its id or `latest`, instead of starting one. A name and overrides may be given,
            too: any difference is refused.
        dry_run: Print the resolved suite and its estimated cost, without running it.
    """
    from mcl_ray.sdk.tuner import CohortTuner

    keywords = _keywords(execution, download=download)
    if resume is not None:
        _resume(resume, name, overrides, keywords, execution, is_suite=True, dry_run=dry_run)
    elif name is None:
        raise SpecError("a suite has a name or a file (`mcl suites` lists the names), but none was given")
    else:
        _run(CohortTuner.suite(name, overrides=overrides, **keywords), execution, dry_run=dry_run)


def extend(
    sweep_id: str,
    /,
    *,
    trials: Annotated[int, Parameter(validator=app.at_least_one)],
    execution: app.Options = DEFAULT_EXECUTION,
) -> None:
    """Add trials to a sweep, finished or not, and resume it.

    Args:
        sweep_id: The sweep's id, or latest.
        trials: Number of trials beside those it has.
    """
    from mcl_ray.sdk.tuner import CohortTuner

    _run(CohortTuner.restore(sweep_id, more_trials=trials, **_keywords(execution)), execution)


def retry(
    sweep_id: str,
    /,
    *,
    failed: Annotated[bool, Parameter(help="Which trials: those that failed. It must be given.")],
    execution: app.Options = DEFAULT_EXECUTION,
) -> None:
    """Try the failed trials and further seeds of a sweep again, from their last checkpoints, and resume it.

    Those of the linear classification that follows a suite without labels are tried again, too.

    Args:
        sweep_id: The sweep's id, or latest.
    """
    assert failed, "there is no --no-failed"
    from mcl_ray.sdk.tuner import CohortTuner

    _run(CohortTuner.restore(sweep_id, retry_failed=True, **_keywords(execution)), execution)


def _keywords(execution: ExecutionOptions, *, download: bool = False) -> dict[str, Any]:
    """Return the keywords with which a tuner is created."""
    from mcl_ray.cli.sweep_terminal import TerminalSweepCallback

    options = {field.name: getattr(execution, field.name) for field in dataclasses.fields(execution)}
    return options | {"download": download, "callbacks": [TerminalSweepCallback(app.stdout(), execution)]}


def _resume(
    sweep_id: str,
    name: str | None,
    overrides: tuple[str, ...],
    keywords: dict[str, Any],
    execution: ExecutionOptions,
    *,
    is_suite: bool,
    dry_run: bool,
) -> None:
    """Resume a sweep; the first word may already be an override."""
    from mcl_ray.sdk.tuner import CohortTuner

    is_override = name is not None and "=" in name
    given = (name, *overrides) if is_override and name is not None else overrides
    spec = None if is_override else name
    tuner = CohortTuner.restore(sweep_id, spec=spec, is_suite=is_suite, overrides=given, **keywords)
    _run(tuner, execution, dry_run=dry_run)
    if dry_run:
        plan = tuner.resumption()
        further = f", and {plan.further} runs after them" if plan.further else ""
        app.stdout().print(f"{plan.folder.name}: {plan.left} of {plan.experiment.trials} trials are left{further}")


def _run(tuner: CohortTuner, execution: ExecutionOptions, *, dry_run: bool = False) -> None:
    if not dry_run:
        tuner.fit()
        return
    from mcl_ray.cli.sweep_estimate import print_estimate

    print_estimate(tuner.estimate(), execution, app.stdout())


def program(name: str) -> App:
    """Return `sweep` itself, with `table`, `extend` and `retry` below it."""
    made = app.new_app(name)
    made.default(sweep)
    made.command(table)
    made.command(extend)
    made.command(retry)
    return made


command = program("sweep")
"""Program that the console script `mcl` uses."""
