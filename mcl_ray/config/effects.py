"""Which fields of a run have an effect: weights between peers have none with one peer, tau has none without contrast.

The fields of `unused_fields.py` have an effect with certain settings only, and it is an error to set them otherwise.
Others depend on numbers, which are free: a baseline has weights of zero. A search samples neither where they have no
effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcl_ray.config.overrides import flat
from mcl_ray.config.spec import RunSpec, Weights
from mcl_ray.config.unused_fields import USES

_SIZE = ("cohort.size", "cohort.networks")
_PAIRS = ("losses.beta", "losses.gamma", "losses.lam")
_OF_CONTRAST = ("cohort.embedding_dim", "cohort.head", "bank.")
"""Fields that have an effect only if a contrastive term is computed, apart from those of the losses."""
_DECIDING = {
    **dict.fromkeys([*_PAIRS, "losses.logit_distillation"], _SIZE),
    **dict.fromkeys(["losses.tau", "losses.contrast", *_OF_CONTRAST], ("losses.alpha", *_PAIRS, *_SIZE)),
    "losses.temperature": (*_PAIRS, "losses.logit_distillation", *_SIZE),
}
"""Field, or a part with its dot → fields whose numbers decide whether it has an effect."""


def acts(run: RunSpec, path: str) -> bool:
    """Return whether a field, given by its full path, has an effect in a run."""
    if path.startswith(_OF_CONTRAST) and not run.has_contrast:
        return False
    if path.removeprefix("losses.") in run.losses_without_effect:
        return False
    return all(use.holds(run) for use in USES if path.startswith(use.fields))


def acting(run: RunSpec) -> dict[str, Any]:
    """Return the value of every field that has an effect in a run, by its full path."""
    return {path: value for path, value in flat(run).items() if acts(run, path)}


def deciding(path: str) -> frozenset[str]:
    """Return the full paths of the fields whose values decide whether a field has an effect."""
    of_numbers = {parent for field, parents in _DECIDING.items() if path.startswith(field) for parent in parents}
    of_settings = {use.when.partition("=")[0] for use in USES if path.startswith(use.fields)}
    return frozenset(of_numbers | of_settings)


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
