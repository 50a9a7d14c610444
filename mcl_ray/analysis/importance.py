"""Importances of searched parameters: the shares of the objective's variance that they explain.

They are computed in `searches.importance`, with Optuna.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Importances:
    """The importance of each searched parameter, or the reason why there are none."""

    values: Mapping[str, float] = field(default_factory=dict)
    """Parameter → share of the variance, from 0 to 1."""
    reason: str | None = None
    """The reason for an empty `values`."""
