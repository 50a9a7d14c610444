"""Importances on data whose truth is known."""

import random
from dataclasses import replace

import pytest

from mcl_ray.analysis.importance import MIN_CONFIGURATIONS, at_common_epoch
from mcl_ray.analysis.ranking import Ranked, ranking
from mcl_ray.config.overrides import replace as with_fields
from mcl_ray.config.recipes import digits
from mcl_ray.results.store import EpochRow, RunWriter, read_epochs, read_runs
from searches.importance import importances

NOISE = 0.4
"""Standard deviation of the figure over seeds, in points."""
ALPHA, BETA, SIZE = "losses.alpha", "losses.beta", "cohort.size"
OBJECTIVE = "validation/top1/mean"


def points(count, seed):
    chance = random.Random(seed)
    for _ in range(count):
        size = chance.choice([1, 2, 3])
        weights = [f"losses.{name}" for name in ("beta", "gamma", "lam")]
        pairs = {name: chance.random() for name in weights} if size > 1 else {}
        sampler = {"batch.sampler": chance.choice(["reference", "balanced"])}
        yield {ALPHA: 10 ** chance.uniform(-3, 0), SIZE: size, "losses.tau": 0.1} | sampler | pairs


def rows_of(count, effect, seed=0, state="finished", noise=NOISE):
    chance = random.Random(seed + 1000)
    rows = []
    for place, searched in enumerate(points(count, seed)):
        value = effect(searched) + chance.gauss(0, noise)
        rows.append(
            Ranked(
                place=place, run_ids=(str(place),), trial_id=None, searched=searched, state=state, reason=None,
                value=value, score=value, std=None, n=1, best_peer_best_epoch=None, epochs_done=1, wall_time_s=1.0,
            )
        )  # fmt: skip
    return rows


@pytest.mark.parametrize("count", [14, 24, 100])
def test_on_noise_no_parameter_is_distinguishable(count):
    found = [importances(rows_of(count, lambda _: 90.0, seed)) for seed in range(20)]
    silent = [one for one in found if not one.values]
    assert len(silent) >= 19, "a false alarm in a hundred"
    assert all(one.reason == f"none distinguishable from noise, among {count} configurations" for one in silent)
    assert set(silent[0].floors) == set(silent[0].indistinct) >= {ALPHA, SIZE}


@pytest.mark.parametrize("count", [24, 100])
def test_where_alpha_alone_acts_by_three_points_it_is_alone(count):
    found = [importances(rows_of(count, lambda at: 30 * min(at[ALPHA], 0.1), seed)) for seed in range(20)]
    assert sum(list(one.values) == [ALPHA] for one in found) >= 19
    assert found[0].values[ALPHA] > 0.6
    assert found[0] == importances(rows_of(count, lambda at: 30 * min(at[ALPHA], 0.1), 0))


def test_a_share_is_of_the_variance_and_not_normalised():
    found = importances(rows_of(400, lambda at: 0.4 * (at["batch.sampler"] == "balanced"), noise=0.2))
    assert found.values == {"batch.sampler": pytest.approx(0.5, abs=0.08)}, "0.2² of 0.2² + 0.2²"


def test_a_parameter_counts_where_it_has_an_effect():
    found = importances(rows_of(60, lambda at: 3 * at.get(BETA, 0.5)))
    assert list(found.values) == [BETA]
    assert found.values[BETA] > 0.6, "of the cohorts that have pairs"


def test_a_peak_in_the_middle_is_seen_and_a_confounded_parameter_is_not():
    rows = rows_of(100, lambda at: -12 * (at["losses.gamma"] - 0.5) ** 2 if at[SIZE] > 1 else -1, 1)
    assert list(importances(rows).values) == ["losses.gamma"]
    follows = [replace(row, searched=row.searched | {"losses.tau": row.searched[ALPHA] ** 2}) for row in
               rows_of(60, lambda at: 30 * min(at[ALPHA], 0.1))]  # fmt: skip
    assert len(importances(follows).values) == 1, "two parameters that always move together are one finding"


def test_too_few_or_too_like_give_a_reason():
    few = importances(rows_of(MIN_CONFIGURATIONS - 1, lambda at: at[ALPHA]))
    assert (few.values, few.reason) == (
        {},
        "importances need at least 8 configurations with a value at one epoch, but got 7",
    )
    running = importances(rows_of(20, lambda at: at[ALPHA], state="running"))
    assert "but got 0" in running.reason
    alike = importances(rows_of(20, lambda _: 1.0, noise=0.0))
    assert "an objective that varies, but every value is 1.0" in alike.reason


def record(folder, number, point, curve, epochs):
    spec = with_fields(digits(), point | {"schedule.epochs": epochs})
    labels = {"searched": point, "sweep_id": folder.name, "trial_id": f"{number:04d}"}
    with RunWriter.begin(folder, f"{folder.name}-{number:04d}-r0", spec, **labels) as writer:
        for epoch, value in enumerate(curve, start=1):
            writer.record_epoch(epoch, [EpochRow("mean", "validation", "top1", value)])
        writer.finish("finished" if len(curve) == epochs else "stopped")


def common(folder):
    runs, epochs = read_runs(folder), read_epochs(folder)
    return at_common_epoch(ranking(runs, epochs, OBJECTIVE, "max"), runs, epochs, OBJECTIVE, "max")


def test_trials_that_were_stopped_early_are_compared_at_the_epoch_that_all_reached(tmp_path):
    """Figures at earlier epochs are lower: what was stopped must not seem worse for its parameters."""
    chance = random.Random(0)
    for number, point in enumerate(points(24, 5)):
        gains = [70.0, 80.0, 90.0]
        reached = gains if point["batch.sampler"] == "balanced" else gains[:1]
        curve = [gain + 3 * (100 * min(point[ALPHA], 0.01)) + chance.gauss(0, NOISE) for gain in reached]
        record(tmp_path, number, point, curve, 6)
    rows = common(tmp_path)
    assert {row.epochs_done for row in rows} == {1}
    found = importances(rows)
    assert (list(found.values), found.epoch, found.n) == ([ALPHA], 1, 24)
    raw = ranking(read_runs(tmp_path), read_epochs(tmp_path), OBJECTIVE, "max")
    assert importances(raw).n < 24, "rows of the ranking itself are compared among those that trained the longest"


def test_finished_trials_are_compared_at_their_end_if_they_are_most(tmp_path):
    for number, point in enumerate(points(12, 5)):
        record(tmp_path, number, point, [50.0, 60.0 + number][: 1 if number < 4 else 2], 2)
    rows = common(tmp_path)
    assert ([row.epochs_done for row in rows], rows[0].value) == ([2] * 8, 71.0)
