"""The corners of a search space: the runs among which is the largest of all its trials, whatever "large" counts.

What a run takes is `mcl_ray.training.estimate`; nothing is worked out here but which runs to ask it of.
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
"""How many combinations of values are looked at, at most."""
COSTLY = ("method", "batch.size", "batch.per_class", "batch.sampler", "cohort", "losses", "queue.keys")
"""Fields that change what a run takes, or whether such a run can be."""


def corners(sweep: SweepSpec) -> list[RunSpec]:
    """The runs at the corners of the space; those of values that do not go together fail at once, and are left out."""
    runs: list[RunSpec] = []
    for point in _points(sweep.space):
        with contextlib.suppress(SpecError):
            runs.append(sweep.trial_run(point))
    return runs or [sweep.run]


def undominated(runs: list[RunSpec]) -> list[RunSpec]:
    """Those that may take the most: no other run of the same networks is as large in everything that can be counted.

    The most peers first, then the largest batches.
    """
    alike: dict[object, dict[tuple[float, ...], RunSpec]] = defaultdict(dict)
    for run in runs:
        alike[run.method, run.cohort.networks, run.cohort.head].setdefault(_sizes(run), run)
    kept = [
        run
        for group in alike.values()
        for sizes, run in group.items()
        if not any(other != sizes and _covers(other, sizes) for other in group)
    ]
    return sorted(kept, key=lambda run: (run.cohort.size, run.batch.size), reverse=True)


def _sizes(run: RunSpec) -> tuple[float, ...]:
    """What a run takes grows with each of these; peers that share a stem take less than as many that do not."""
    cohort, weights = run.cohort, run.losses
    numbers = (cohort.size, not cohort.shares_stem, cohort.embedding_dim, run.batch.size, run.queue.keys)
    return *numbers, weights.alpha, weights.beta, weights.gamma, weights.lam


def _covers(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a >= b for a, b in zip(one, other, strict=True))


def _points(space: Space) -> list[Point]:
    """Every combination of the values that matter, of the fields that matter and those that these depend on."""
    points: list[Point] = [{}]
    for path in _paths(space):
        points = list(islice(_with_each(points, path, space), MAX_POINTS))
    return points


def _paths(space: Space) -> list[str]:
    """In the order of the space, where a field comes after those it depends on."""
    wanted = {path for path in space if path in COSTLY or path.split(".")[0] in COSTLY}
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
    """Names: all. Numbers: the largest; of batches the smallest too, which make the most steps.

    Where other fields depend on a number, also its other end and the values that they name. Of peers every number, as
    more of them may share a stem that fewer do not, and so take less.
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
