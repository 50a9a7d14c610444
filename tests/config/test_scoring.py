import pytest

from mcl_ray.config.scoring import Score, Scoring, has_enough_seeds
from mcl_ray.errors import SpecError

SEEDS = [60.0, 64.0, 71.0]


def test_a_score_is_one_number_of_the_seeds():
    assert Score().of(SEEDS) == 65.0
    assert Score("median").of(SEEDS) == 64.0
    assert Score("median").of(SEEDS[:2]) == 62.0
    assert Score("mean_minus_std", k=2.0).of(SEEDS) == pytest.approx(65.0 - 2.0 * 31.0**0.5)


def test_spread_counts_against_a_configuration_in_either_direction():
    assert Score("mean_minus_std").of(SEEDS, mode="min") == pytest.approx(65.0 + 31.0**0.5)
    assert Score("mean_minus_std").of([60.0]) == 60.0


def test_more_than_half_must_live():
    assert [has_enough_seeds(living, 4) for living in range(5)] == [False, False, False, True, True]
    assert [has_enough_seeds(living, 3) for living in range(4)] == [False, False, True, True]
    assert [has_enough_seeds(living, 1) for living in range(2)] == [False, True]


def test_a_sweep_older_than_repeats_has_one_seed_and_its_mean():
    assert Scoring.parse('{"name": "digits"}') == Scoring(score=Score("mean"), repeats=1, costs=())
    text = '{"score": {"kind": "mean_minus_std", "k": 0.5}, "repeats": 3, "costs": ["parameters"]}'
    assert Scoring.parse(text) == Scoring(score=Score("mean_minus_std", 0.5), repeats=3, costs=("parameters",))


def test_what_is_no_score_or_no_cost_is_refused():
    with pytest.raises(SpecError, match="score must be one of mean, median, mean_minus_std, but got 'best'"):
        Scoring.parse('{"score": {"kind": "best"}}')
    with pytest.raises(
        SpecError, match="costs must be among parameters, multiply_adds, training_time_s, but got memory"
    ):
        Scoring.parse('{"costs": ["memory"]}')
    assert Scoring.parse('{"costs": ["wall_time_s"]}').costs == ("training_time_s",)
