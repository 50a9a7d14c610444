"""Differences of two experiments, for a sweep that is resumed with another spec than it started with."""

from __future__ import annotations

import math

from mcl_ray.config.yaml12 import inline
from searches.spec.experiment import Experiment


def difference(old: Experiment, new: Experiment) -> list[str]:
    """Return one line for each field that differs, `scheduler.grace_epochs: 3 -> 5`; `-` where there is no field."""
    before, after = _values(old), _values(new)
    return [f"{path}: {before.get(path, '-')} -> {after.get(path, '-')}" for path in _changed(before, after)]


def only_extends(old: Experiment, new: Experiment) -> bool:
    """Return whether `new` equals `old` apart from extensible fields that were raised or lifted (null)."""
    changed = _changed(_values(old), _values(new))
    return old.kind == new.kind and all(
        path in old.extensible and _bound(new, path) >= _bound(old, path) for path in changed
    )


def _changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    return [path for path in before | after if before.get(path) != after.get(path)]


def _bound(experiment: Experiment, field: str) -> float:
    bound: float | None = experiment.leaves()[field]
    return math.inf if bound is None else bound


def _values(experiment: Experiment) -> dict[str, str]:
    return {path: inline(value) for path, value in experiment.leaves().items()}
