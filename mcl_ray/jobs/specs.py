"""From a request to what would run, by the same models as the command line.

Only names that are known and fields of specs get through: no path, no command, no variable of an environment.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from mcl_ray.config import recipes
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.config.plugins import installed_plugins, is_covered
from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import SpecError, unknown
from mcl_ray.jobs.messages import JobRequest, JobSpec, Resolved
from mcl_ray.pipeline import Stage, stages
from searches.spec.experiment import Experiment

T = TypeVar("T")
REFUSED = ("study", "warm_start", "built_on")
"""Fields that name a database or results outside of the job's own folder."""


def resolve(request: JobRequest, plugins: Collection[str] | None = None) -> Resolved:
    """Return what a request would run. Plugins are not imported: the driver finds out whether they can be.

    Args:
        request: The request.
        plugins: Modules that its runs may name as plugins, beside those of installed distributions; None: any.

    Raises:
        SpecError: a name or a field is unknown, or a rule is broken.
    """
    resolved = _resolved(request)
    if plugins is not None:
        _check_plugins(resolved.spec, (*plugins, *installed_plugins()))
    return resolved


def _check_plugins(tree: dict[str, Any] | list[Any], allowed: Sequence[str]) -> None:
    """Check every `plugins` in plain data, at any depth."""
    items: Iterable[object] = tree
    if isinstance(tree, dict):
        items = tree.values()
        refused = [module for module in tree.get("plugins", ()) if not is_covered(module, allowed)]
        if refused:
            raise SpecError(
                f"a job imports only modules that the service's setting `plugins` names, but got plugins={refused[0]}"
            )
    for item in items:
        if isinstance(item, dict | list):
            _check_plugins(item, allowed)


def _resolved(request: JobRequest) -> Resolved:
    given = request.execution
    workers = ExecutionOptions(workers=given.workers, parallelism=given.parallelism)
    workers.check_parallelism(has_workers=workers.group is not None)  # its group raises for 4..2
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


def total_trials(spec: JobSpec) -> int:
    """Return the trials of a sweep, with those that it was extended by; the same for every attempt."""
    return int(resolve(spec.request).spec["trials"]) + spec.extra_trials


def assignments(request: JobRequest) -> tuple[str, ...]:
    """Return the overrides as the command line has them; JSON is YAML."""
    return tuple(f"{name}={json.dumps(value)}" for name, value in request.overrides.items())


def _sweep(request: JobRequest) -> Resolved:
    from searches.spec import search_registry

    name = _known("search", request.name, search_registry.SEARCHES)
    return _experiment(request, _loaded(search_registry.load, name))


def _table(request: JobRequest) -> Resolved:
    from searches.spec import suite_registry

    name = _known("suite", request.name, suite_registry.SUITES)
    return _experiment(request, _loaded(suite_registry.load, name))


def _experiment(request: JobRequest, base: Experiment) -> Resolved:
    spec = base.with_overrides(assignments(request))
    return Resolved(
        kind=request.kind,
        name=request.name,
        runs=spec.num_runs,
        epochs=spec.run.schedule.epochs,
        spec=spec.model_dump(mode="json"),
    )


def _runs(request: JobRequest) -> Resolved:
    names = [_known("recipe", name, recipes.RECIPES) for name in (request.name or "").split("+")]
    base = "+".join(names) if len(names) > 1 else _loaded(recipes.load, names[0])
    planned = stages(base, assignments(request))
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


@functools.cache
def _loaded(load: Callable[[str], T], name: str) -> T:
    """Return what is known by a name; to build it takes as long as all that follows, and a spec never changes."""
    return load(name)


def _known(kind: str, name: str | None, names: Mapping[str, object]) -> str:
    """Return the name, which is one that is known: elsewhere a name may also be a file."""
    if name not in names:
        raise SpecError(unknown(kind, str(name), names))
    return str(name)
