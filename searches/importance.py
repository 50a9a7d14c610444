"""Importances of the searched parameters: shares of the objective's variance, as far as chance does not explain them.

A parameter is compared over the configurations in which it has an effect. Its share is what a smooth function of it (a
parabola in its ranks; the mean of each category) explains beyond the parameters that explain more. How much a parameter
would explain by chance follows from permutations of the figures (Freedman and Lane 1983). Optuna's fANOVA and PED-ANOVA
give shares that add up to one, so that on pure noise some parameter always appears to matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcl_ray.analysis.importance import MIN_CONFIGURATIONS, Importances, comparable
from mcl_ray.analysis.ranking import Ranked
from mcl_ray.reports.labels import parameters_of, setting

PERMUTATIONS = 2000
FALSE_ALARMS = 0.01
"""Probability with which any parameter is called important on pure noise."""
FEW = 20
"""Up to this number of configurations, a number counts by its rank alone: a parabola would fit noise."""
MAX_CONFIGURATIONS = 4000
"""Most configurations that are compared; of more, evenly spaced ones in the order of the ranking."""

Floats = NDArray[np.float64]


def importances(rows: Sequence[Ranked], *, seed: int = 0) -> Importances:
    """Return the share of the objective's variance that each parameter explains, for those that do so beyond chance.

    Counts configurations that ended at one epoch, see `mcl_ray.analysis.importance.comparable`. The shares are not
    normalised. Too few configurations, an objective that does not vary, no parameter that varies, or none that is
    distinguishable from noise give no values and a reason.

    Args:
        rows: The ranking, best with figures at one epoch (`mcl_ray.analysis.importance.at_common_epoch`).
        seed: Seed of the permutations.
    """
    counted = comparable(rows)
    if len(counted) < MIN_CONFIGURATIONS:
        return Importances(
            reason=f"importances need at least {MIN_CONFIGURATIONS} configurations with a value at one epoch, but got "
            f"{len(counted)}"
        )
    if len({row.score for row in counted}) == 1:
        return Importances(reason=f"importances need an objective that varies, but every value is {counted[0].value}")
    counted = counted[:: math.ceil(len(counted) / MAX_CONFIGURATIONS)]
    fields = {name: found for name in parameters_of(counted) if (found := _Field.of(name, counted)) is not None}
    if not fields:
        return Importances(reason="importances need a parameter that varies where it has an effect")
    scores = np.array([row.score for row in counted], dtype=np.float64)
    values, floors = _select(fields, scores, np.random.default_rng(seed))
    reason = None if values else f"none distinguishable from noise, among {len(counted)} configurations"
    shown = dict(sorted(values.items(), key=lambda item: -item[1]))
    return Importances(values=shown, reason=reason, floors=floors, epoch=counted[0].epochs_done, n=len(counted))


class _Field:
    """A parameter over the configurations: where it has an effect, and functions of it.

    n configurations, m of them with the parameter, k functions.
    """

    def __init__(self, active: NDArray[np.bool_], functions: Floats) -> None:
        self.active = active
        """Configurations that have the parameter, [n]."""
        self.functions = functions
        """Functions of the parameter, zero and of mean zero over the configurations that have it, [n, k]."""

    @classmethod
    def of(cls, name: str, rows: Sequence[Ranked]) -> _Field | None:
        """Return a parameter; None if it varies among too few configurations for a comparison."""
        active = np.array([name in row.searched for row in rows])
        own = _functions([row.searched[name] for row in rows if name in row.searched])
        if own.shape[1] == 0 or len(own) < max(MIN_CONFIGURATIONS, own.shape[1] + 3):
            return None
        functions = np.zeros((len(rows), own.shape[1]))
        functions[active] = own - own.mean(axis=0)
        return cls(active, functions)


def _functions(values: Sequence[Any]) -> Floats:
    """Return functions of the values, [m, k]: rank and squared rank of numbers, an indicator for each category.

    Ranks make the scale irrelevant, linear or logarithmic. With one value there are none, k = 0.
    """
    if all(_is_number(value) for value in values):
        distinct, position = np.unique(np.array(values, dtype=np.float64), return_inverse=True)
        counts = np.bincount(position)
        ranks = ((np.cumsum(counts) - (counts + 1) / 2) / max(1, len(values)))[position] - 0.5
        return np.stack([ranks, ranks**2], axis=1)[:, : min(len(distinct) - 1, 1 if len(values) <= FEW else 2)]
    names = [setting(value) for value in values]
    categories = sorted(set(names))
    return np.array([[name == category for category in categories[1:]] for name in names], dtype=np.float64)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _select(
    fields: dict[str, _Field], scores: Floats, chance: np.random.Generator
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the shares of the parameters beyond chance, and the share that each would have by chance at most.

    The parameter that exceeds chance the most comes first; the others explain what it leaves.
    """
    chosen: dict[str, float] = {}
    floors: dict[str, float] = {}
    while len(chosen) < len(fields):
        given = np.concatenate([fields[name].functions for name in chosen], axis=1) if chosen else None
        found = {
            name: _share(field, scores, given, chance, FALSE_ALARMS / len(fields))
            for name, field in fields.items()
            if name not in chosen
        }
        floors |= {name: floor for name, (_, floor) in found.items()}
        best = max(found, key=lambda name: found[name][0] - found[name][1])
        share, floor = found[best]
        if share <= floor:
            break
        chosen[best] = share
    return chosen, floors


def _share(
    field: _Field, scores: Floats, given: Floats | None, chance: np.random.Generator, level: float
) -> tuple[float, float]:
    """Return the share of the variance that a parameter explains beyond `given`, and by chance at most.

    Residuals lie in fewer dimensions than the figures, so that those that are permuted are scaled.
    """
    own, y = field.functions[field.active], scores[field.active]
    known = np.ones((len(y), 1)) if given is None else np.column_stack([np.ones(len(y)), given[field.active]])
    basis = _orthonormal(known)
    y_left, own_left = y - basis @ (basis.T @ y), own - basis @ (basis.T @ own)
    functions = _orthonormal(own_left)
    total = float(((y - y.mean()) ** 2).sum())
    left = len(y) - basis.shape[1]
    if total == 0 or functions.shape[1] == 0 or left < functions.shape[1] + 3:
        return 0.0, 0.0
    share = float(((functions.T @ y_left) ** 2).sum()) / total
    shuffled = chance.permuted(np.broadcast_to(y_left, (PERMUTATIONS, len(y))), axis=1)
    by_chance = ((shuffled @ functions) ** 2).sum(axis=1) / total * (len(y) - 1) / left
    return share, float(np.quantile(by_chance, 1 - level, method="higher"))


def _orthonormal(columns: Floats) -> Floats:
    """Return an orthonormal basis of the columns' span, [m, at most k]."""
    left, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return left[:, sizes > 1e-9 * max(1.0, sizes.max(initial=0.0))]
