"""Which fields have an effect in a run, and which others decide that: a search samples none where it has no effect.

`RunSpec.acts` has the rule. The fields of `uses.py` have an effect with certain settings only, and it is an error to
set them otherwise. Others depend on numbers, which are free: a baseline has weights of zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcl_ray.config.overrides import flat
from mcl_ray.config.spec import OF_CONTRAST, RunSpec, Weights
from mcl_ray.config.uses import USES

_SIZE = ("cohort.size", "cohort.networks")
_PAIRS = ("losses.beta", "losses.gamma", "losses.lam")
_CONTRASTIVE = ("losses.alpha", "losses.extra.", *_PAIRS, *_SIZE)
_DECIDING = {
    **dict.fromkeys([*_PAIRS, "losses.logit_distillation", "cohort.sharing"], _SIZE),
    **dict.fromkeys(["losses.tau", "losses.contrast", *OF_CONTRAST], _CONTRASTIVE),
    "losses.temperature": (*_PAIRS, "losses.logit_distillation", *_SIZE),
}
"""Field, or a part with its dot → fields, or parts, whose numbers decide whether it has an effect."""


def acts(run: RunSpec, path: str) -> bool:
    """Return whether a field, given by its full path, has an effect in a run."""
    return run.acts(path)


def acting(run: RunSpec) -> dict[str, Any]:
    """Return the value of every field that has an effect in a run, by its full path."""
    return {path: value for path, value in flat(run).items() if acts(run, path)}


def deciding(path: str) -> frozenset[str]:
    """Return the full paths of the fields, or parts with their dots, that decide whether a field has an effect."""
    of_numbers = {parent for field, parents in _DECIDING.items() if path.startswith(field) for parent in parents}
    of_settings = {use.when.partition("=")[0] for use in USES if path.startswith(use.fields)}
    return frozenset(of_numbers | of_settings)


def decides(parent: str, path: str) -> bool:
    """Return whether the value of a field decides whether another one has an effect, both given by full paths."""
    return any(parent == own or (own.endswith(".") and parent.startswith(own)) for own in deciding(path))


def partial(run: RunSpec, values: Mapping[str, Any]) -> RunSpec:
    """Return a copy with new values by full path, which need not be valid together, to ask which fields act in it."""
    parts: dict[str, dict[str, Any]] = {}
    for path, value in values.items():
        part, _, name = path.rpartition(".")
        parts.setdefault(part, {})[name] = value
    own = parts.pop("", {})
    if extra := parts.pop("losses.extra", {}):
        parts.setdefault("losses", {})["extra"] = Weights({**run.losses.extra, **extra})
    known = {part: fields for part, fields in parts.items() if hasattr(run, part)}
    sections = {part: getattr(run, part).model_copy(update=fields) for part, fields in known.items()}
    return run.model_copy(update=own | sections)
