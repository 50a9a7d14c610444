"""In what two searches or suites differ, for a sweep that goes on with another spec than it began with."""

from __future__ import annotations

import math
from typing import Any

from mcl_ray.config.overrides import flat
from mcl_ray.config.yaml12 import inline
from searches.spec.experiment import Experiment
from searches.spec.sweep import SweepSpec

BUDGETS = ("trials", "time_limit_s", "keep_checkpoints")
"""Bounds that may be raised, or lifted (null): on trials, time and disk."""


def difference(old: Experiment, new: Experiment) -> list[str]:
    """One line for each field that differs, `scheduler.grace_epochs: 3 -> 5`; `-` where there is no such field."""
    before, after = _values(old), _values(new)
    return [
        f"{path}: {before.get(path, '-')} -> {after.get(path, '-')}"
        for path in before | after
        if before.get(path) != after.get(path)
    ]


def only_adds(old: Experiment, new: Experiment) -> bool:
    """Whether `new` is `old` with a larger budget, or the same one: what was tried stays as good as it was.

    A suite has no more to be given.
    """
    if not (isinstance(old, SweepSpec) and isinstance(new, SweepSpec)):
        return old == new
    same = old.model_copy(update={name: getattr(new, name) for name in BUDGETS}) == new
    return same and all(_bound(new, name) >= _bound(old, name) for name in BUDGETS)


def _bound(sweep: SweepSpec, budget: str) -> float:
    bound: float | None = getattr(sweep, budget)
    return math.inf if bound is None else bound


def _values(sweep: Experiment) -> dict[str, str]:
    fields: dict[str, Any] = flat(sweep)
    mapping = "space" if isinstance(sweep, SweepSpec) else "rows"
    entries = {f"{mapping}.{name}": entry for name, entry in fields.pop(mapping).items()}
    return {path: inline(value) for path, value in (fields | entries).items()}
