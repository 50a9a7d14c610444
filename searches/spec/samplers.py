"""Registry of the samplers: what a search needs to know of each, without importing Optuna."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mcl_ray.config.registry import Registry


@dataclass(frozen=True, kw_only=True)
class SamplerEntry:
    """Registration of a sampler."""

    builder: Callable[..., Any] | None = None
    """Function of a plugin that takes a seed and returns a sampler of Optuna; None for those that
    `searches.tune.converters` builds."""
    learns_from_others: bool = False
    """True if it learns from trials that it did not propose, as those of an earlier sweep."""
    has_startup_trials: bool = False
    """True if `sampler.startup_trials` has an effect."""
    has_population: bool = False
    """True if `sampler.population` has an effect."""


_MODEL = SamplerEntry(learns_from_others=True, has_startup_trials=True)
SAMPLERS: Registry[SamplerEntry] = Registry(
    "sampler",
    {
        "tpe": _MODEL,
        "gp": _MODEL,
        "nsga2": SamplerEntry(has_population=True),
        "qmc": SamplerEntry(),
        "random": SamplerEntry(),
        "grid": SamplerEntry(),
    },
)
