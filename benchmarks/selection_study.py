"""The study of `benchmarks.selection` on real images: sweeps whose winners are trained again with fresh seeds.

Each sweep draws configurations at random, the published point first, and trains them to the end with one seed. From the
same runs, each rule chooses as it would at equal cost: `argmax` among all of them, `confirm` among fewer, the best of
which get more seeds. The winners and the published point are then trained with seeds that no rule has seen: their means
are taken for the true values, on validation for the optimism, on test for the gain. A run that is in the results folder
is not trained again, so that a study that was interrupted continues.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import optuna

from benchmarks.answers import CONFIRMED, SEEDS, Answers, confirmed_configurations, figures_of
from mcl_ray.config import overrides, recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.source import load_dataset
from mcl_ray.errors import TrainingError
from mcl_ray.results import queries
from mcl_ray.results.queries import Objective
from mcl_ray.results.store import RunWriter, find_run, is_finished, read_epochs, state_of
from mcl_ray.training.recorded_run import train_recorded_run
from searches.spec import search_registry
from searches.spec.space import Point, applied
from searches.spec.sweep import SweepSpec
from searches.tune.converters import suggest

FRESH_SEED = 500
"""First of the fresh seeds of a sweep, after its own seed; sweeps are `SEEDS_APART` seeds apart."""
SEEDS_APART = 1000
# Three epochs in bf16, half of the images for training: about 27 CPU s a run, so that five sweeps take 1.7 core hours.
EMOJI = {
    "recipe": "emoji",
    "data.checksum": "off",
    "cohort.networks": "resnet8",
    "cohort.embedding_dim": 32,
    "batch.size": 64,
    "batch.sampler": "balanced",
    "optimizer.lr": 0.05,
    "schedule.epochs": 3,
    "compute.precision": "bf16",
    "evaluation.test": "at_end",
    "data.validation_fraction": 0.5,
}

Figures = Mapping[RunSpec, float]
"""Run → its figure; −∞ for one that failed."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """Settings of a study of one data set."""

    search: SweepSpec
    environment: Environment
    sweeps: int
    runs: int
    """Runs that a rule may train in one sweep."""
    fresh: int
    """Fresh seeds of each winner."""
    processes: int


def search_of(name: str, **fields: object) -> SweepSpec:
    """Return the search `digits`, or its space on the emoji archive, with fields of the run replaced."""
    search = search_registry.digits()
    if name == "emoji":
        run = overrides.replace(recipes.cifar(), EMOJI)
        search = overrides.replace(search, {"name": "emoji", "run": run, "baseline": {}})
    return overrides.replace(search, {f"run.{path}": value for path, value in fields.items()})


def run_study(study: Study) -> dict[str, dict[str, float]]:
    """Run a study, and return for each rule what `figures_of` returns, and the gain on test."""
    points = [_points(study, sweep) for sweep in range(study.sweeps)]
    first = _measured([spec for sweep in range(study.sweeps) for spec in _first(study, sweep, points[sweep])], study)
    chosen = [_to_confirm(study, sweep, own, first) for sweep, own in enumerate(points)]
    more = _measured([spec for sweep, own in enumerate(chosen) for spec in _all_seeds(study, sweep, own)], study)
    answers = {
        "argmax": [_argmax(study, sweep, own, first) for sweep, own in enumerate(points)],
        "confirm": [_best_mean(study, sweep, own, more) for sweep, own in enumerate(chosen)],
    }
    winners = {name: [point for point, _ in found] for name, found in answers.items()}
    compared = [[points[sweep][0], *(winners[name][sweep] for name in winners)] for sweep in range(study.sweeps)]
    specs = [spec for sweep, own in enumerate(compared) for point in own for spec in _fresh(study, sweep, point)]
    validation, test = _measured(specs, study), _measured(specs, study, split="test")
    return {
        name: _judged(study, points, found, validation) | _on_test(study, points, found, test)
        for name, found in answers.items()
    }


def _points(study: Study, sweep: int) -> list[Point]:
    """Return the configurations of a sweep: the published point, then random ones."""
    assert study.search.own_point is not None, "the published point is in the space"
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=sweep))
    others = [suggest(study.search.space, drawn.ask()) for _ in range(study.runs - 1)]
    return [study.search.own_point, *others]


def _spec(study: Study, sweep: int, point: Point, seed: int) -> RunSpec:
    return overrides.replace(applied(study.search.run, point), {"seed": SEEDS_APART * sweep + seed})


def _first(study: Study, sweep: int, points: Sequence[Point]) -> list[RunSpec]:
    return [_spec(study, sweep, point, 0) for point in points]


def _all_seeds(study: Study, sweep: int, points: Sequence[Point]) -> list[RunSpec]:
    return [_spec(study, sweep, point, seed) for point in points for seed in range(SEEDS)]


def _fresh(study: Study, sweep: int, point: Point) -> list[RunSpec]:
    seeds = range(FRESH_SEED, FRESH_SEED + study.fresh)
    tested = {"evaluation.test": "at_end"}
    return [overrides.replace(_spec(study, sweep, point, seed), tested) for seed in seeds]


def _to_confirm(study: Study, sweep: int, points: Sequence[Point], figures: Figures) -> list[Point]:
    """Return the published point and the best others of as many configurations as `confirm` can afford."""
    own, *others = points[: confirmed_configurations(study.runs)]
    ranked = sorted(others, key=lambda point: -figures[_spec(study, sweep, point, 0)])
    return [own, *ranked[:CONFIRMED]]


Answer = tuple[Point, float]
"""Chosen configuration, and the figure that is claimed for it."""


def _argmax(study: Study, sweep: int, points: Sequence[Point], figures: Figures) -> Answer:
    return max(((point, figures[_spec(study, sweep, point, 0)]) for point in points), key=lambda found: found[1])


def _best_mean(study: Study, sweep: int, points: Sequence[Point], figures: Figures) -> Answer:
    means = ((point, statistics.fmean(figures[spec] for spec in _all_seeds(study, sweep, [point]))) for point in points)
    return max(means, key=lambda found: found[1])


def _mean_of_fresh(study: Study, sweep: int, point: Point, figures: Figures) -> float:
    return statistics.fmean(figures[spec] for spec in _fresh(study, sweep, point))


def _judged(
    study: Study, points: Sequence[Sequence[Point]], found: Sequence[Answer], figures: Figures
) -> dict[str, float]:
    true = [_mean_of_fresh(study, sweep, point, figures) for sweep, (point, _) in enumerate(found)]
    published = [_mean_of_fresh(study, sweep, own[0], figures) for sweep, own in enumerate(points)]
    claimed = [figure for _, figure in found]
    return figures_of(Answers(np.array(claimed), np.array(true), np.array(published)))


def _on_test(
    study: Study, points: Sequence[Sequence[Point]], found: Sequence[Answer], figures: Figures
) -> dict[str, float]:
    gains = [
        _mean_of_fresh(study, sweep, point, figures) - _mean_of_fresh(study, sweep, points[sweep][0], figures)
        for sweep, (point, _) in enumerate(found)
    ]
    better = 100 * sum(gain > 0 for gain in gains) / len(gains)
    found_on_test = {
        "test_gain_points": round(statistics.fmean(gains), 3),
        "better_on_test_percent": round(better, 1),
    }
    if len(gains) > 1:
        found_on_test["test_gain_standard_error"] = round(statistics.stdev(gains) / len(gains) ** 0.5, 3)
    return found_on_test


def _measured(specs: Sequence[RunSpec], study: Study, *, split: str = "validation") -> dict[RunSpec, float]:
    """Train the runs that are not in the results folder, and return the figure of each: the mean of its peers."""
    distinct = list(dict.fromkeys(specs))
    measure = partial(_measure, environment=study.environment, split=split)
    if study.processes == 1:
        return dict(zip(distinct, map(measure, distinct), strict=True))
    with ProcessPoolExecutor(study.processes, mp_context=get_context("spawn")) as pool:
        return dict(zip(distinct, pool.map(measure, distinct), strict=True))


def _measure(spec: RunSpec, environment: Environment, split: str) -> float:
    folder = find_run(environment.results, spec)
    if folder is None or state_of(folder) not in ("finished", "failed"):
        folder = _trained(spec, environment, folder)
    if not is_finished(folder):
        return -np.inf
    (curve,) = queries.points(read_epochs(folder), Objective(split, "top1", "mean")).values()
    return curve[-1].value


def _trained(spec: RunSpec, environment: Environment, folder: Path | None) -> Path:
    """Train a run, or the rest of it, and return its folder; one that fails stays recorded as failed."""
    dataset = load_dataset(spec.data, environment)
    writer = RunWriter.create(environment.results, spec) if folder is None else RunWriter.resume(folder)
    with suppress(TrainingError):
        train_recorded_run(spec, dataset, environment, writer)
    return writer.folder


def studies(
    names: Sequence[str], results: Path, data: Path, device: str, *, sweeps: int, runs: int, fresh: int, processes: int
) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    """Yield the name of each data set and its result; `data` has the emoji archive."""
    for name in names:
        environment = Environment(results=results / name, data=data, device=device, threads=1, checkpoints_kept=1)
        study = Study(
            search=search_of(name),
            environment=environment,
            sweeps=sweeps,
            runs=runs,
            fresh=fresh,
            processes=processes,
        )
        yield name, run_study(study)
