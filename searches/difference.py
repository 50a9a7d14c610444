"""In what two searches differ, for a sweep that goes on with another spec than it began with."""

from __future__ import annotations

import math
from typing import Any

from mcl_ray.overrides import flat
from mcl_ray.plain_yaml import inline
from searches.spec import SweepSpec

BUDGETS = ("trials", "time_limit_s")


def difference(old: SweepSpec, new: SweepSpec) -> list[str]:
    """One line for each field that differs, `scheduler.grace_epochs: 3 -> 5`; `-` where there is no such field."""
    before, after = _values(old), _values(new)
    return [
        f"{path}: {before.get(path, '-')} -> {after.get(path, '-')}"
        for path in before | after
        if before.get(path) != after.get(path)
    ]


def only_adds(old: SweepSpec, new: SweepSpec) -> bool:
    """Whether `new` is `old` with trials or time added, or nothing: what was tried stays as good as it was."""
    same = old.model_copy(update={name: getattr(new, name) for name in BUDGETS}) == new
    more_time = (new.time_limit_s or math.inf) >= (old.time_limit_s or math.inf)
    return same and new.trials >= old.trials and more_time


def _values(sweep: SweepSpec) -> dict[str, str]:
    fields: dict[str, Any] = flat(sweep)
    space = fields.pop("space")
    return {path: inline(value) for path, value in (fields | {f"space.{path}": d for path, d in space.items()}).items()}
