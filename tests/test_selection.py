"""The simulation of how a search chooses, where the answer is known."""

import numpy as np
import pytest

from benchmarks.selection import RULES, Noise, figures_of

SWEEPS = 4000


def found(rule, true, seed):
    return figures_of(RULES[rule](Noise(true, seed), SWEEPS, np.random.default_rng(1)))


@pytest.mark.parametrize("rule", RULES)
def test_without_noise_of_seeds_every_rule_finds_the_best_and_its_figure_is_true(rule):
    exact = found(rule, 1.0, 0.0)
    assert exact["optimism_points"] == 0.0
    assert exact["true_gain_points"] > 1.0


@pytest.mark.parametrize("rule", RULES)
def test_among_equal_configurations_nothing_is_better(rule):
    alike = found(rule, 0.0, 0.4)
    assert (alike["truly_better_percent"], alike["true_gain_points"]) == (0.0, 0.0)


def test_the_best_of_24_equal_configurations_appears_better_by_the_expected_maximum_of_24_normals():
    assert found("argmax", 0.0, 1.0)["optimism_points"] == pytest.approx(1.948, abs=0.03)


def test_the_confirmation_is_at_most_half_as_optimistic_as_argmax_at_the_same_cost_and_gains_no_less():
    argmax, confirm = found("argmax", 0.3, 0.4), found("confirm", 0.3, 0.4)
    assert confirm["optimism_points"] < argmax["optimism_points"] / 2
    assert confirm["true_gain_points"] >= argmax["true_gain_points"]
    assert confirm["truly_better_percent"] >= argmax["truly_better_percent"]
