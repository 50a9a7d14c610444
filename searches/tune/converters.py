"""Conversion of experiments, points and trials into Optuna's objects, and of Optuna's proposals into points."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from mcl_ray.errors import SpecError
from searches.optuna_logging import optuna_verbosity
from searches.spec.experiment import Experiment
from searches.spec.samplers import SAMPLERS
from searches.spec.space import Choice, Dimension, FloatRange, IntRange, Point, Scalar, Value, applies, contains
from searches.trial_history import KnownTrial

PROBES = 4
"""Number of trials with which a sampler is tried out: it has learned from the first ones in the last ones."""
TRIAL_ATTR = "trial"
"""Key of our trial's id in the attributes of an Optuna trial."""


class RecordedTrial(FrozenTrial):
    """A trial that ended; its copies share its content, which nothing changes: a study copies each that it is given."""

    @classmethod
    def of(cls, trial: FrozenTrial) -> RecordedTrial:
        """Return a trial with the content of another."""
        found = cls.__new__(cls)
        found.__dict__.update(trial.__dict__)
        return found

    def __deepcopy__(self, memo: object) -> RecordedTrial:
        return RecordedTrial.of(self)


def to_sampler(sweep: Experiment, proposed: int = 0, startup_trials: int | None = None) -> BaseSampler:
    """Return Optuna's sampler; the points of a grid are queued in the study (`first_points`), not proposed by it.

    Args:
        sweep: The search or suite.
        proposed: Number of trials proposed before, if the sweep is resumed with a rebuilt study: the sampler draws
            other numbers than it did for those. `qmc` finds its position in the sequence in the study's attributes.
        startup_trials: Random trials before `tpe` and `gp` learn, instead of the sweep's.
    """
    spec = sweep.strategy.sampler
    seed = _seed(spec.seed, proposed)
    startup_trials = startup_trials or spec.startup_trials
    match spec.kind:
        case "tpe":
            return TPESampler(seed=seed, n_startup_trials=startup_trials)
        case "gp":
            return GPSampler(seed=seed, n_startup_trials=startup_trials, warn_independent_sampling=False)
        case "nsga2":
            return NSGAIISampler(seed=seed, population_size=spec.population)
        case "qmc":
            return _qmc(spec.seed, RandomSampler(seed=seed))
        case "random" | "grid":
            return RandomSampler(seed=seed)
        case _:
            return _of_plugin(spec.kind, seed)


def check_sampler(sweep: Experiment) -> None:
    """Check that the sampler proposes points of the sweep's space, with trials that are not trained.

    Raises:
        SpecError: it does not.
    """
    sampler = to_sampler(sweep, startup_trials=1)

    def draw(trial: optuna.Trial) -> list[float]:
        point, values = suggest(sweep.space, trial), [float(trial.number)] * len(sweep.directions)
        params, distributions = to_params(sweep.space, point), to_distributions(sweep.space, point)
        create_trial(params=params, distributions=distributions, values=values)  # as an exported or resumed trial is
        return values

    try:
        with optuna_verbosity(optuna.logging.CRITICAL):
            study = optuna.create_study(storage=InMemoryStorage(), directions=sweep.directions, sampler=sampler)
            study.optimize(draw, n_trials=PROBES)
    except Exception as error:  # of the sampler's arithmetic, whatever it is
        raise SpecError(
            f"the sampler must be able to serve the search space, but {sweep.strategy.sampler.kind} fails "
            f"({type(error).__name__}: {error}); use other bounds or steps, or another sampler"
        ) from error


def suggest(space: Mapping[str, Dimension], trial: optuna.Trial) -> dict[str, Value]:
    """Return the point that Optuna proposes, one active field after another."""
    point: dict[str, Value] = {}
    for path, dimension in space.items():
        if applies(dimension, point):
            point[path] = _suggest(path, dimension, trial)
    return point


def to_distributions(space: Mapping[str, Dimension], point: Point) -> dict[str, BaseDistribution]:
    """Return Optuna's distributions of the active fields at a point of the space."""
    assert contains(space, point), f"a point must lie in the space, but got {point}"
    return {path: _distribution(space[path]) for path in point}


def to_params(space: Mapping[str, Dimension], point: Point) -> dict[str, Scalar]:
    """Return a point of the space as Optuna's parameters."""
    assert contains(space, point), f"a point must lie in the space, but got {point}"
    return {path: _to_optuna(space[path].match(value)) for path, value in point.items()}


def to_point(space: Mapping[str, Dimension], params: Mapping[str, Any]) -> dict[str, Value]:
    """Return the point that Optuna's parameters stand for."""
    return {path: _from_optuna(space[path], value) for path, value in params.items()}


def to_frozen_trial(
    sweep: Experiment,
    trial: KnownTrial,
    states: Mapping[str, TrialState],
    system_attrs: Mapping[str, Any] | None = None,
) -> FrozenTrial:
    """Return a trial that ended as Optuna's; without a value for every objective it counts as failed.

    Args:
        sweep: The search or suite.
        trial: One that ended.
        states: State of the trial → Optuna's.
        system_attrs: What a sampler stored beside the trial.
    """
    values = [trial.score, *(trial.costs.get(cost) for cost in sweep.scoring.costs)]
    known = [value for value in values if value is not None]
    state = states[trial.state] if len(known) == len(values) else TrialState.FAIL
    created = create_trial(
        state=state,
        values=None if state == TrialState.FAIL else known,
        params=to_params(sweep.space, trial.point),
        distributions=to_distributions(sweep.space, trial.point),
        user_attrs={TRIAL_ATTR: trial.trial_id},
        system_attrs=dict(system_attrs or {}),
        intermediate_values={} if sweep.scoring.costs else dict(trial.curve),
    )
    return RecordedTrial.of(created)


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
    """Return a list as text, as Optuna's categories are scalars."""
    assert value is not None
    return json.dumps(value) if isinstance(value, tuple) else value


def _from_optuna(dimension: Dimension, value: Any) -> Value:
    if isinstance(dimension, Choice):
        return dimension.values[_categories(dimension).index(value)]
    match = dimension.match(value)
    assert match is not None, f"a proposal must lie in its range, but got {value}"
    return match


def _of_plugin(kind: str, seed: int) -> BaseSampler:
    builder = SAMPLERS[kind].builder
    assert builder is not None, "the samplers without one are those of `to_sampler`"
    sampler = builder(seed)
    if not isinstance(sampler, BaseSampler):
        raise SpecError(
            f"a sampler's function must return a sampler of Optuna, but that of {kind!r} returned "
            f"{type(sampler).__name__}"
        )
    return sampler


def _qmc(seed: int, independent: BaseSampler) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return QMCSampler(scramble=True, seed=seed, independent_sampler=independent, warn_independent_sampling=False)


def _seed(seed: int, proposed: int) -> int:
    return int(np.random.SeedSequence((seed, proposed)).generate_state(1)[0]) if proposed else seed
