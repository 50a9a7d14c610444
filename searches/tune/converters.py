"""The one place that turns our searches into Optuna's and Tune's objects, and what Optuna proposes into points."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from searches.spec.experiment import Experiment
from searches.spec.space import Choice, Dimension, FloatRange, IntRange, Point, Scalar, Value, applies, contains
from searches.spec.strategy import SchedulerSpec
from searches.trial_history import KnownTrial
from searches.tune.scheduler import ResumableHalving
from trainables.trial_job import EPOCH, SCORE


def to_sampler(sweep: Experiment, proposed: int = 0) -> BaseSampler:
    """Optuna's sampler. A grid's points are queued in the study (`first_points`): nothing is left to propose then.

    Args:
        sweep: The search.
        proposed: Trials proposed before, where a sweep goes on with a study that was built anew: the sampler draws
            other numbers than it did for those. `qmc` finds its place in the sequence in the study's attributes.
    """
    spec = sweep.sampler
    seed = _seed(spec.seed, proposed)
    match spec.kind:
        case "tpe":
            return TPESampler(seed=seed, n_startup_trials=spec.startup_trials)
        case "gp":
            return GPSampler(seed=seed, n_startup_trials=spec.startup_trials, warn_independent_sampling=False)
        case "nsga2":
            return NSGAIISampler(seed=seed, population_size=spec.population)
        case "qmc":
            return _qmc(spec.seed, RandomSampler(seed=seed))
        case "random" | "grid":
            return RandomSampler(seed=seed)


def to_scheduler(spec: SchedulerSpec, epochs: int, known: Sequence[KnownTrial] = ()) -> TrialScheduler:
    """Tune's scheduler, which knows the trials on record and counts our `epoch`.

    `hyperband` is the asynchronous one. Tune's HyperBandScheduler pauses trials until the slowest of their bracket is
    there, starts each anew, and has no grace.
    """
    if spec.kind == "none" or spec.grace_epochs >= epochs:
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    first_rungs = (spec.grace_epochs * spec.reduction_factor**bracket for bracket in range(spec.brackets))
    halving = ResumableHalving(
        time_attr=EPOCH,
        max_t=epochs,
        grace_period=spec.grace_epochs,
        reduction_factor=spec.reduction_factor,
        brackets=sum(first_rung < epochs for first_rung in first_rungs) if spec.kind == "hyperband" else 1,
        metric=SCORE,
        mode="max",
    )
    halving.recall(known)
    return halving


def suggest(space: Mapping[str, Dimension], trial: optuna.Trial) -> dict[str, Value]:
    """The point that Optuna proposes: every field in play, one after another."""
    point: dict[str, Value] = {}
    for path, dimension in space.items():
        if applies(dimension, point):
            point[path] = _suggest(path, dimension, trial)
    return point


def to_distributions(space: Mapping[str, Dimension], point: Point) -> dict[str, BaseDistribution]:
    """Optuna's distributions of the fields in play at a point of the space."""
    assert contains(space, point), f"a point must lie in the space, but got {point}"
    return {path: _distribution(space[path]) for path in point}


def to_params(space: Mapping[str, Dimension], point: Point) -> dict[str, Scalar]:
    """A point of the space as Optuna has it: to be queued in a study, or to be put in it as known."""
    assert contains(space, point), f"a point must lie in the space, but got {point}"
    return {path: _to_optuna(space[path].match(value)) for path, value in point.items()}


def to_point(space: Mapping[str, Dimension], params: Mapping[str, Any]) -> dict[str, Value]:
    """The point that Optuna's parameters stand for."""
    return {path: _from_optuna(space[path], value) for path, value in params.items()}


def _suggest(path: str, dimension: Dimension, trial: optuna.Trial) -> Value:
    if isinstance(dimension, FloatRange):
        drawn: Any = trial.suggest_float(path, dimension.low, dimension.high, step=dimension.step, log=dimension.log)
    elif isinstance(dimension, IntRange):
        drawn = trial.suggest_int(path, dimension.low, dimension.high, step=dimension.step, log=dimension.log)
    else:
        drawn = trial.suggest_categorical(path, _categories(dimension))
    return _from_optuna(dimension, drawn)


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, FloatRange):
        return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)
    if isinstance(dimension, IntRange):
        return IntDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)
    return CategoricalDistribution(_categories(dimension))


def _categories(choice: Choice) -> list[Scalar]:
    return [_to_optuna(value) for value in choice.values]


def _to_optuna(value: Value | None) -> Scalar:
    """A list as text: Optuna's categories are scalars."""
    assert value is not None
    return json.dumps(value) if isinstance(value, tuple) else value


def _from_optuna(dimension: Dimension, value: Any) -> Value:
    if isinstance(dimension, Choice):
        return dimension.values[_categories(dimension).index(value)]
    match = dimension.match(value)
    assert match is not None, f"a proposal must lie in its range, but got {value}"
    return match


def _qmc(seed: int, independent: BaseSampler) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return QMCSampler(scramble=True, seed=seed, independent_sampler=independent, warn_independent_sampling=False)


def _seed(seed: int, proposed: int) -> int:
    return int(np.random.SeedSequence((seed, proposed)).generate_state(1)[0]) if proposed else seed
