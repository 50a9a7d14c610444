"""Completing a space as a user wrote it: full names, conditions, and a check of its values against the run's rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice, product

from mcl_ray.config.effects import decides
from mcl_ray.config.overrides import resolve
from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import SpecError
from searches.spec.space import Dimension, FloatRange, Point, Space, Value, applied, applies, same

FIXED = ("version", "recipe", "plugins", "data", "evaluation", "schedule.epochs")
MAX_COMBINATIONS = 4096
"""Maximum number of combinations of values with which a field is asked for its effect."""
"""Fields that all trials of a search have in common: images, splits, when they are scored, and how long they train."""


def resolved(space: Mapping[str, Dimension], run: RunSpec, *, may_have_seed: bool = False) -> Space:
    """Return the space with full paths, fields before those that depend on them, each end of each tried on `run`.

    Args:
        space: The space as it was written.
        run: The run whose fields are searched.
        may_have_seed: Accept a searched seed, as in sweeps of earlier versions.

    Raises:
        ValueError: the space is empty, names a field that cannot be searched or names one twice, has a condition that
            cannot be met, or a value that the run's spec refuses.
    """
    if not space:
        raise ValueError("a search space must name one field or more, but it is empty")
    paths: Space = {}
    for name, dimension in space.items():
        try:
            path = searchable(name)
        except ValueError as error:
            raise ValueError(f"search space, {name}: {error}") from error
        if path in paths:
            raise ValueError(f"a search space names a field once, but {path} is there twice")
        if path == "seed" and not may_have_seed:
            raise ValueError(
                "a search finds values that are good for any seed, so that seed cannot be searched; repeats=N trains "
                "every configuration with N seeds"
            )
        paths[path] = dimension
    paths = {path: _with_conditions(path, paths) for path in paths}
    paths = _in_order({path: _where_used(path, paths, run) for path in paths})
    for path in paths:
        _try_ends(path, paths, run)
    return paths


def searchable(name: str) -> str:
    """Return the full path of a field that trials may differ in.

    Raises:
        ValueError: there is no such field, or all trials must have the same.
    """
    path = full_path(name)
    if path.split(".")[0] in FIXED or path in FIXED:
        raise ValueError(f"all trials must have the same {path}, so {path} cannot be searched")
    return path


def full_path(name: str) -> str:
    """Return the full path of a field of a run.

    Raises:
        ValueError: there is no such field, or several are called so.
    """
    try:
        return resolve(RunSpec, name)
    except SpecError as error:
        raise ValueError(str(error)) from error


def _with_conditions(path: str, space: Space) -> Dimension:
    """Return the dimension with its conditions in full paths and in the values of the fields they name."""
    when: dict[str, tuple[Value, ...]] = {}
    for name, values in space[path].when.items():
        try:
            parent = full_path(name)
        except ValueError as error:
            raise ValueError(f"search space, condition of {path}: {error}") from error
        if parent not in space:
            raise ValueError(f"{path} can only depend on fields of the space, but {parent} is not in it")
        if isinstance(space[parent], FloatRange):
            raise ValueError(f"{path} can only depend on a choice or a range of whole numbers, but {parent} is float")
        if parent in when:
            raise ValueError(f"{path} names each field it depends on once, but {parent} is there twice")
        matches = [space[parent].match(value) for value in values]
        if None in matches:
            raise ValueError(
                f"{path} can only depend on values that {parent} may have, but {values[matches.index(None)]!r} is none"
            )
        when[parent] = tuple(match for match in matches if match is not None)
    return space[path].model_copy(update={"when": when})


def _where_used(path: str, space: Space, run: RunSpec) -> Dimension:
    """Return the dimension; where other fields of the space may take the field's effect away, bound to the run."""
    bound = space[path].used_in(run, path)
    return space[path] if all(map(bound.has_effect, _extremes(path, space))) else bound


def _extremes(path: str, space: Space) -> Iterator[Point]:
    """Yield the combinations of extreme values of the fields that decide whether a field has an effect."""
    deciders = [parent for parent in space if decides(parent, path)]
    for values in islice(product(*(space[parent].ends() for parent in deciders)), MAX_COMBINATIONS):
        yield dict(zip(deciders, values, strict=True))


def without_effect(space: Space) -> list[str]:
    """Return the fields that have no effect anywhere in the space."""
    return [path for path in space if not any(map(space[path].has_effect, _extremes(path, space)))]


def _in_order(space: Space) -> Space:
    """Return the space with every field after those it depends on, else in the order given."""
    ordered: Space = {}
    parents = {path: _parents(path, space) for path in space}
    while len(ordered) < len(space):
        ready = [path for path in space if path not in ordered and parents[path] <= ordered.keys()]
        if not ready:
            circular = ", ".join(path for path in space if path not in ordered)
            raise ValueError(f"conditions must not be circular, but these depend on each other: {circular}")
        ordered[ready[0]] = space[ready[0]]
    return ordered


def _parents(path: str, space: Space) -> set[str]:
    """Return the fields of the space that a field's conditions name, or that decide whether it has an effect."""
    deciders = [parent for parent in space if decides(parent, path)] if space[path].may_lack_effect else []
    return {*space[path].when, *deciders}


def _try_ends(path: str, space: Space, run: RunSpec) -> None:
    """Check that each end is valid somewhere in the space, with the run's own values for all other fields."""
    settings = list(_settings(path, space))
    if not settings:
        raise ValueError(f"search space, {path}: no point meets its conditions and those of the fields in them")
    for value in space[path].ends():
        refused: SpecError | None = None
        for setting in settings:
            try:
                applied(run, _with_dependants(setting | {path: value}, space))
            except SpecError as error:
                refused = refused or error
            else:
                break
        else:
            raise ValueError(f"search space, {path}: {refused}") from refused


def _settings(path: str, space: Space) -> Iterator[dict[str, Value]]:
    """Yield the values of the fields that this one depends on, directly or not, where it is active."""
    allowed: dict[str, list[Value]] = {}
    lineage = [path]
    for descendant in lineage:
        for parent, values in space[descendant].when.items():
            known = allowed.get(parent, list(values))
            allowed[parent] = [value for value in known if any(same(value, other) for other in values)]
            lineage += [] if parent in lineage else [parent]
    for values in product(*allowed.values()):
        yield dict(zip(allowed, values, strict=True))


def _with_dependants(point: dict[str, Value], space: Space) -> dict[str, Value]:
    """Return the point with the fields that it makes active, each at its first end."""
    for path, dimension in space.items():
        if path not in point and dimension.when and applies(dimension, point):
            point = point | {path: dimension.ends()[0]}
    return point
