"""The baseline of a search: one configuration outside of the space, as fields of the run with other values."""

from __future__ import annotations

from collections.abc import Mapping

from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import SpecError
from searches.spec.fields import searchable
from searches.spec.space import Value, applied


def completed_baseline(given: Mapping[str, Value], run: RunSpec) -> dict[str, Value]:
    """Return the baseline with full paths.

    Raises:
        ValueError: a field is unknown, given twice or the same in all trials, or the run's spec refuses the values.
    """
    baseline: dict[str, Value] = {}
    for name, value in given.items():
        try:
            path = searchable(name)
        except ValueError as error:
            raise ValueError(f"baseline, {name}: {error}") from error
        if path in baseline:
            raise ValueError(f"a baseline names a field once, but {path} is there twice")
        baseline[path] = value
    try:
        applied(run, baseline)
    except SpecError as error:
        raise ValueError(f"baseline: {error}; baseline={{}} takes it out") from error
    return baseline
