"""From a request to what would run, by the same models as the command line.

Only names that are known and fields of specs get through: no path, no command, no variable of an environment.
"""

from __future__ import annotations

import json

from api.models import JobRequest, Resolved
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.config.recipes import RECIPES
from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import SpecError, unknown
from mcl_ray.pipeline import Stage, stages

REFUSED = ("study", "warm_start", "built_on")
"""Fields that name a database or results outside of the job's own folder."""


def resolve(request: JobRequest) -> Resolved:
    """Return what a request would run.

    Raises:
        SpecError: a name or a field is unknown, or a rule is broken.
    """
    ExecutionOptions(workers=request.execution.workers).group  # noqa: B018  # raises for 4..2
    refused = [name for name in request.overrides if name.split(".")[0] in REFUSED]
    if refused:
        raise SpecError(f"a job's results stay in its own folder, so that {refused[0]} cannot be given")
    match request.kind:
        case "sweep":
            return _sweep(request)
        case "table":
            return _table(request)
        case "train" | "linear":
            return _runs(request)
    return Resolved(kind=request.kind, name=None, runs=0, epochs=0, spec=request.model_dump(mode="json"))


def assignments(request: JobRequest) -> tuple[str, ...]:
    """Return the overrides as the command line has them; JSON is YAML."""
    return tuple(f"{name}={json.dumps(value)}" for name, value in request.overrides.items())


def _sweep(request: JobRequest) -> Resolved:
    from mcl_ray.cli.sweep import resolve as resolve_sweep
    from searches.spec.search_registry import SEARCHES

    spec = resolve_sweep(_known("search", request.name, SEARCHES), assignments(request))
    return Resolved(
        kind="sweep",
        name=request.name,
        runs=spec.num_runs,
        epochs=spec.run.schedule.epochs,
        spec=spec.model_dump(mode="json"),
    )


def _table(request: JobRequest) -> Resolved:
    from mcl_ray.cli.sweep import resolve_suite
    from searches.spec.suite_registry import SUITES

    spec = resolve_suite(_known("suite", request.name, SUITES), assignments(request))
    return Resolved(
        kind="table",
        name=request.name,
        runs=spec.num_runs,
        epochs=spec.run.schedule.epochs,
        spec=spec.model_dump(mode="json"),
    )


def _runs(request: JobRequest) -> Resolved:
    for name in (request.name or "").split("+"):
        _known("recipe", name, RECIPES)
    planned = stages(request.name or "", assignments(request))
    if request.kind == "linear":
        planned[0].check_takes_networks()
    specs = [_expected(stage, is_later=stage.is_later or request.source is not None) for stage in planned]
    content = {stage.base.recipe: spec.model_dump(mode="json") for stage, spec in zip(planned, specs, strict=True)}
    return Resolved(
        kind=request.kind,
        name=request.name,
        runs=len(specs),
        epochs=max(spec.schedule.epochs for spec in specs),
        spec=content,
    )


def _expected(stage: Stage, *, is_later: bool) -> RunSpec:
    """Return the spec as far as it is known before the networks that it freezes are."""
    if is_later:
        return Stage(base=stage.base, values=stage.values, is_later=True).expected(None, None)
    return stage.resolved(None)[0]


def _known(kind: str, name: str | None, names: object) -> str:
    """Return the name, which is one that is known: elsewhere a name may also be a file."""
    assert isinstance(names, dict)
    if name not in names:
        raise SpecError(unknown(kind, str(name), names))
    return str(name)
