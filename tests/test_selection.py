"""The simulation of how a search chooses, where the answer is known."""

import dataclasses

import numpy as np
import pytest

from benchmarks import selection_study
from benchmarks.answers import figures_of
from benchmarks.selection import RULES, Noise
from benchmarks.selection_study import Study, run_study, search_of
from mcl_ray.config.environment import Environment
from mcl_ray.results.store import read_runs

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


@pytest.fixture
def study(tmp_path):
    """A study of three sweeps, of twelve configurations and, for the confirmation, two of them."""
    search = search_of("digits", **{"schedule.epochs": 1, "batch.size": 240, "batch.per_class": 24})
    environment = Environment(results=tmp_path, device="cpu", threads=1)
    return Study(search=search, environment=environment, sweeps=3, runs=12, fresh=2, processes=1)


def test_the_study_measures_optimism_and_gain_by_seeds_that_no_rule_has_seen(study, monkeypatch):
    published, asked = study.search.own_point, []

    def known(specs, own, *, split="validation"):
        """Every configuration is truly equal to 50; the first seed of what is no published point claims 8 more."""
        asked.append((split, list(specs)))
        return {
            spec: 50.0 + 8.0 * (spec.seed % 1000 == 0 and spec.losses.alpha != published["losses.alpha"])
            for spec in specs
        }

    monkeypatch.setattr(selection_study, "_measured", known)
    found = run_study(study)
    assert found["argmax"]["optimism_points"] == 8.0
    assert found["confirm"]["optimism_points"] == pytest.approx(8 / 3, abs=0.001)
    for rule in found.values():
        assert (rule["true_gain_points"], rule["test_gain_points"]) == (0.0, 0.0)
    first, confirmed, *fresh = asked
    assert len(first[1]) == 3 * 12
    assert len(confirmed[1]) == 3 * 2 * 3
    assert [split for split, _ in fresh] == ["validation", "test"]
    seen = {spec.seed for _, specs in (first, confirmed) for spec in specs}
    assert not seen & {spec.seed for _, specs in fresh for spec in specs}
    assert {spec.evaluation.test for _, specs in (first, confirmed) for spec in specs} == {"never"}


@pytest.mark.slow
def test_a_small_study_trains_each_run_once(study):
    small = dataclasses.replace(study, sweeps=1, fresh=1)
    found = run_study(small)
    runs = read_runs(study.environment.results).to_pylist()
    assert 12 + 2 * 2 + 1 <= len(runs) <= 12 + 2 * 2 + 3
    assert {run["state"] for run in runs} == {"finished"}
    assert run_study(small) == found
    assert read_runs(study.environment.results).num_rows == len(runs), "nothing is trained again"
