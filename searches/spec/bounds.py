"""The corners of a search space: runs among which is the largest trial, whatever resource is counted.

The resources that a run needs are estimated in `mcl_ray.training.estimate`; this module selects the runs.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice

from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import SpecError
from searches.spec.space import Choice, Dimension, FloatRange, Point, Space, Value, applies
from searches.spec.sweep import SweepSpec

MAX_POINTS = 1024
"""Maximum number of combinations of values that are considered."""
RESOURCE_FIELDS = ("method", "batch.size", "batch.per_class", "batch.sampler", "cohort", "losses", "queue.keys")
"""Fields that change the resources of a run, or whether such a run is valid."""


def corners(sweep: SweepSpec) -> list[RunSpec]:
    """Return the runs at the corners of the space, without those whose values are not valid together."""
    runs: list[RunSpec] = []
    for point in _points(sweep.space):
        with contextlib.suppress(SpecError):
            runs.append(sweep.trial_run(point))
    return runs or [sweep.run]


def undominated(runs: list[RunSpec]) -> list[RunSpec]:
    """Return the runs that may need the most: no other run of the same networks is as large in every size.

    They are sorted by the number of peers, then by the batch size, largest first.
    """
    by_networks: dict[object, dict[tuple[float, ...], RunSpec]] = defaultdict(dict)
    for run in runs:
        by_networks[run.method, run.cohort.networks, run.cohort.head].setdefault(_sizes(run), run)
    largest = [
        run
        for group in by_networks.values()
        for sizes, run in group.items()
        if not any(other != sizes and _covers(other, sizes) for other in group)
    ]
    return sorted(largest, key=lambda run: (run.cohort.size, run.batch.size), reverse=True)


def _sizes(run: RunSpec) -> tuple[float, ...]:
    """Return sizes with which a run's resources grow; peers that share a stem need less than as many that do not."""
    cohort, weights = run.cohort, run.losses
    numbers = (cohort.size, not cohort.shares_stem, cohort.embedding_dim, run.batch.size, run.queue.keys)
    return *numbers, weights.alpha, weights.beta, weights.gamma, weights.lam


def _covers(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True))


def _points(space: Space) -> list[Point]:
    """Return every combination of the relevant values of the relevant fields and of those that they depend on."""
    points: list[Point] = [{}]
    for path in _paths(space):
        points = list(islice(_with_each(points, path, space), MAX_POINTS))
    return points


def _paths(space: Space) -> list[str]:
    """Return the relevant fields in the order of the space, where a field comes after those it depends on."""
    wanted = {path for path in space if path in RESOURCE_FIELDS or path.split(".")[0] in RESOURCE_FIELDS}
    for path in reversed(space):
        if path in wanted:
            wanted |= space[path].when.keys()
    return [path for path in space if path in wanted]


def _with_each(points: list[Point], path: str, space: Space) -> Iterator[Point]:
    values = _values(path, space[path], space)
    for point in points:
        if applies(space[path], point):
            yield from (dict(point) | {path: value} for value in values)
        else:
            yield point


def _values(path: str, dimension: Dimension, space: Space) -> list[Value]:
    """Return all values of a choice, and the largest of a range; of batches the smallest too, for the most steps.

    Where other fields depend on a number, also its other end and the values that they name. Of peers every number, as
    more of them may share a stem that fewer do not, and so need less.
    """
    if isinstance(dimension, Choice) or path.startswith("batch."):
        return list(dimension.ends())
    low, high = dimension.ends()
    if isinstance(dimension, FloatRange):
        return [high]
    if path == "cohort.size":
        return [size for size in range(dimension.low, dimension.high + 1) if size in dimension]
    named = [value for other in space.values() for value in other.when.get(path, ())]
    return list(dict.fromkeys([high, low, *named] if named else [high]))
