"""The one place that turns our searches into Optuna's and Tune's objects."""

from __future__ import annotations

from collections.abc import Mapping

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from searches.space import Choice, Dimension, FloatRange
from searches.spec import SamplerSpec, SchedulerSpec, SweepSpec


def to_distributions(space: Mapping[str, Dimension]) -> dict[str, BaseDistribution]:
    """Optuna's distribution of each field."""
    return {path: _distribution(dimension) for path, dimension in space.items()}


def to_searcher(sweep: SweepSpec, name: str) -> OptunaSearch:
    """Optuna behind Tune, its study in memory and under a name of its own: Tune's snapshot keeps its state."""
    start = sweep.start_point
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return OptunaSearch(
        space=to_distributions(sweep.space),
        metric=sweep.objective,
        mode="max",
        points_to_evaluate=[start] if start else None,
        sampler=_sampler(sweep.sampler),
        study_name=name,
    )


def to_scheduler(spec: SchedulerSpec, epochs: int) -> TrialScheduler:
    """Tune's scheduler, counting our `epoch`: Tune's own iteration restarts at 1 after a restore."""
    if spec.kind == "none" or spec.grace_epochs >= epochs:
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    return AsyncHyperBandScheduler(
        time_attr="epoch",
        max_t=epochs,
        grace_period=spec.grace_epochs,
        reduction_factor=spec.reduction_factor,
    )


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, FloatRange):
        return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    return IntDistribution(dimension.low, dimension.high)


def _sampler(spec: SamplerSpec) -> optuna.samplers.BaseSampler:
    if spec.kind == "random":
        return optuna.samplers.RandomSampler(seed=spec.seed)
    return optuna.samplers.TPESampler(seed=spec.seed, n_startup_trials=spec.startup_trials)
