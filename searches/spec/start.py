"""Start points of a search: points that are tried first, completed with the run's own values."""

from __future__ import annotations

from mcl_ray.config.overrides import flat
from mcl_ray.config.spec import RunSpec
from searches.spec.fields import full_path
from searches.spec.space import Point, Space, Value, applies, meets_conditions


def completed(point: Point, space: Space, run: RunSpec) -> dict[str, Value]:
    """Return the point with the run's own values for the fields it leaves out, whether or not they lie in the space.

    Inactive fields are left out.
    """
    extra = {f"losses.extra.{name}": weight for name, weight in run.losses.extra.items()}
    values, complete = flat(run) | extra, dict[str, Value]()
    for path, dimension in space.items():
        if applies(dimension, complete):
            value = point.get(path, values.get(path, 0.0))  # a term that the run does not name has no weight
            match = dimension.match(value)
            complete[path] = value if match is None else match
    return complete


def start_point(given: Point, space: Space, run: RunSpec) -> dict[str, Value]:
    """Return a start point with full paths and a value for every active field.

    Raises:
        ValueError: a field is unknown, outside the space or inactive, or a value is not in the space.
    """
    try:
        point = {full_path(name): value for name, value in given.items()}
    except ValueError as error:
        raise ValueError(f"start point: {error}") from error
    complete = completed(point, space, run)
    for path, value in point.items():
        if path not in space:
            raise ValueError(f"a start point has fields of the space, but {path} is not in it")
        if path not in complete and meets_conditions(space[path], complete):
            continue  # it has no effect at this point
        if path not in complete:
            raise ValueError(f"a start point has active fields, but the conditions of {path} do not hold at it")
        if value not in space[path]:
            raise ValueError(f"a start point lies in the space, but {path} cannot be {value!r}")
    for path, value in complete.items():
        if value not in space[path]:
            raise ValueError(f"a start point must give {path}: the run's own {value!r} is not in the space")
    return complete
