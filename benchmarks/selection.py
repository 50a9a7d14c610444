"""Benchmark of how a search chooses: is its answer truly better than the published point, and is its figure true?

    python -m benchmarks.selection [--sweeps 20000] [--true-sd 0.3] [--seed-sd 0.4]
    python -m benchmarks.selection --study digits emoji --data ARCHIVE --out FOLDER [--sweeps 5] [--processes 2]

The second form trains real sweeps, and their winners with fresh seeds: see `selection_study.py`. The first form
simulates sweeps without training: every configuration has a true value, and a run's figure is that value plus the noise
of its seed, both normally distributed, in points. The published point is one of the configurations. No configuration is
stopped early, and the sampler does not learn, so that only the choice is compared. Prints one JSON line for each rule,
of 24 runs each:

    argmax       24 configurations with one seed, the best of them
    confirm      14 with one seed, then the best 4 others and the published point to 3 seeds; the best mean of these
    mean − std   8 with three seeds, the best mean minus standard deviation
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.answers import CONFIRMED, SEEDS, Answers, Floats, confirmed_configurations, figures_of
from benchmarks.record import print_line

RUNS = 24
SIMULATED_SWEEPS, TRAINED_SWEEPS = 20_000, 5


class Noise(NamedTuple):
    """Standard deviations, in points."""

    true: float
    """Standard deviation of the true values of configurations."""
    seed: float
    """Standard deviation of the figures of one configuration over seeds."""


def argmax(noise: Noise, sweeps: int, chance: np.random.Generator) -> Answers:
    """Choose the best of as many configurations as runs, with one seed each."""
    true, figures = _measured(noise, sweeps, RUNS, 1, chance)
    return _chosen(figures[..., 0], true)


def confirm(noise: Noise, sweeps: int, chance: np.random.Generator) -> Answers:
    """Choose the best mean of the published point and the best others, after further seeds of these."""
    true, figures = _measured(noise, sweeps, confirmed_configurations(RUNS), SEEDS, chance)
    first = figures[..., 0].copy()
    first[:, 0] = np.inf  # the published point, whatever its figure
    confirmed = np.argsort(-first, axis=1)[:, : CONFIRMED + 1]
    means = np.take_along_axis(figures.mean(axis=2), confirmed, axis=1)
    return _chosen(means, np.take_along_axis(true, confirmed, axis=1))


def mean_minus_std(noise: Noise, sweeps: int, chance: np.random.Generator) -> Answers:
    """Choose the best mean minus standard deviation of fewer configurations with several seeds each."""
    true, figures = _measured(noise, sweeps, RUNS // SEEDS, SEEDS, chance)
    means = figures.mean(axis=2)
    best = (means - figures.std(axis=2, ddof=1)).argmax(axis=1)
    rows = np.arange(sweeps)
    return Answers(means[rows, best], true[rows, best], true[:, 0])


Rule = Callable[[Noise, int, np.random.Generator], Answers]
RULES: dict[str, Rule] = {"argmax": argmax, "confirm": confirm, "mean − std": mean_minus_std}


def _measured(
    noise: Noise, sweeps: int, configurations: int, seeds: int, chance: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return true values [S, K], the published point first, and the figures of their seeds [S, K, n]."""
    true = chance.normal(0.0, noise.true, (sweeps, configurations))
    return true, true[..., None] + chance.normal(0.0, noise.seed, (sweeps, configurations, seeds))


def _chosen(figures: Floats, true: Floats) -> Answers:
    """Return the configuration with the highest figure; the first one is the published point."""
    rows, best = np.arange(len(figures)), figures.argmax(axis=1)
    return Answers(figures[rows, best], true[rows, best], true[:, 0])


def main() -> None:
    """Simulate every rule with the same noise, or train the study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int)
    parser.add_argument("--true-sd", type=float, default=0.3)
    parser.add_argument("--seed-sd", type=float, default=0.4)
    parser.add_argument("--study", nargs="+", choices=("digits", "emoji"), default=())
    parser.add_argument("--data", type=Path, default=Path("data"), help="the emoji archive, in CIFAR's layout")
    parser.add_argument("--out", type=Path, default=Path("selection"), help="where the runs of the study are recorded")
    parser.add_argument("--runs", type=int, default=RUNS, help="runs of one sweep")
    parser.add_argument("--fresh", type=int, default=5, help="fresh seeds of each winner")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.study:
        _train(options)
        return
    sweeps = options.sweeps or SIMULATED_SWEEPS
    noise = Noise(options.true_sd, options.seed_sd)
    for name, rule in RULES.items():
        answers = rule(noise, sweeps, np.random.default_rng(0))
        settings = {"rule": name, "runs": RUNS, "true_sd": noise.true, "seed_sd": noise.seed}
        print_line("selection", settings | figures_of(answers), n=sweeps)


def _train(options: argparse.Namespace) -> None:
    from benchmarks.selection_study import studies

    sweeps = options.sweeps or TRAINED_SWEEPS
    sizes = {"sweeps": sweeps, "runs": options.runs, "fresh": options.fresh, "processes": options.processes}
    for data, rules in studies(options.study, options.out, options.data, options.device, **sizes):
        for rule, figures in rules.items():
            settings = {"data": data, "rule": rule, "runs": options.runs, "fresh_seeds": options.fresh}
            print_line("selection_study", settings | figures, n=sweeps, device=options.device)


if __name__ == "__main__":
    main()
