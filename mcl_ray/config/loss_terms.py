"""Registry of the terms of the loss; `losses.extra` of a spec has the weights of those that plugins add."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mcl_ray.config.registry import Registry


@dataclass(frozen=True, kw_only=True)
class LossTermEntry:
    """Registration of a term of the loss."""

    function: Callable[..., Any] | None = None
    """Function of a plugin that takes a `losses.grid.ContrastGrid` and returns a scalar; None for a built-in term."""


LOSS_TERMS: Registry[LossTermEntry] = Registry(
    "loss term",
    dict.fromkeys(
        ("vcl", "icl", "soft_vcl", "soft_icl", "cross_entropy", "logit_distillation", "loss"), LossTermEntry()
    ),
)
"""The built-in terms, which have weights of their own, and the name of their sum."""
