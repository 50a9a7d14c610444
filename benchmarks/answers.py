"""Answers of many sweeps, and how good they are: what simulation and study of `benchmarks.selection` share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CONFIRMED, SEEDS = 4, 3
"""Configurations that get further seeds, beside the published point, and seeds of each in all."""
Floats = NDArray[np.float64]


class Answers(NamedTuple):
    """Answers of S sweeps, [S] each: the chosen configuration's figure and true value, the published point's."""

    figure: Floats
    true: Floats
    published: Floats


def confirmed_configurations(runs: int) -> int:
    """Return the number of configurations that leave enough of the runs for the further seeds of the best."""
    return runs - (CONFIRMED + 1) * (SEEDS - 1)


def figures_of(answers: Answers) -> dict[str, float]:
    """Return the probability that the answer is truly better, its true gain, and by how much its figure is too high."""
    gain = answers.true - answers.published
    return {
        "truly_better_percent": round(100 * float((gain > 0).mean()), 1),
        "true_gain_points": round(float(gain.mean()), 3),
        "optimism_points": round(float((answers.figure - answers.true).mean()), 3),
    }
