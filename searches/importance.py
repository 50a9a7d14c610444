"""Importances of the searched parameters: Optuna's fANOVA over the configurations of a ranking.

Only finished results are read, so that importances can be computed long after the search.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from mcl_ray.analysis.ranking import Ranked
from mcl_ray.reports.terminal import parameters_of, setting
from mcl_ray.results.queries import Importances
from searches.optuna_logging import optuna_verbosity

MIN_CONFIGURATIONS = 8
LOG_FROM_RATIO = 20.0


def importances(rows: Sequence[Ranked], *, seed: int = 0) -> Importances:
    """Return the share of the objective's variance that each parameter explains; the shares add up to 1.

    Counts configurations whose runs finished or were stopped early, and parameters that all of them have. Too few of
    them, or an objective that does not vary, give no values and a reason.
    """
    counted = [row for row in rows if row.score is not None and row.state in ("finished", "stopped")]
    if len(counted) < MIN_CONFIGURATIONS:
        return Importances(
            reason=f"importances need at least {MIN_CONFIGURATIONS} configurations with a value, but got {len(counted)}"
        )
    if len({row.score for row in counted}) == 1:
        return Importances(reason=f"importances need an objective that varies, but every value is {counted[0].value}")
    distributions = _distributions(counted)
    if not distributions:
        return Importances(reason="importances need a parameter that varies and that every configuration has")
    with optuna_verbosity(optuna.logging.WARNING):
        study = optuna.create_study()
        study.add_trials([_trial(row, distributions) for row in counted])
        values = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))
    return Importances(values=values)


def _distributions(rows: Sequence[Ranked]) -> dict[str, BaseDistribution]:
    found: dict[str, BaseDistribution] = {}
    for name in parameters_of(rows):
        values = [row.searched[name] for row in rows if name in row.searched]
        if len(values) == len(rows) and len({repr(value) for value in values}) > 1:
            found[name] = _distribution(values)
    return found


def _distribution(values: Sequence[Any]) -> BaseDistribution:
    """Return the range of the values; values that are not numbers are categories, named as in tables."""
    if not all(_is_number(value) for value in values):
        return CategoricalDistribution(sorted({setting(value) for value in values}))
    low, high = float(min(values)), float(max(values))
    return FloatDistribution(low, high, log=low > 0 and high / low >= LOG_FROM_RATIO)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _trial(row: Ranked, distributions: dict[str, BaseDistribution]) -> optuna.trial.FrozenTrial:
    parameters = {
        name: setting(row.searched[name]) if isinstance(kind, CategoricalDistribution) else float(row.searched[name])
        for name, kind in distributions.items()
    }
    return optuna.trial.create_trial(params=parameters, distributions=distributions, value=row.score)
