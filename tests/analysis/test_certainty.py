import numpy as np
import pytest
from scipy import stats

from mcl_ray.analysis.certainty import T_95, interval, paired_difference


def test_the_quantiles_are_those_of_students_t():
    assert [round(stats.t.ppf(0.975, degrees), 3) for degrees in range(1, len(T_95) + 1)] == list(T_95)


def test_an_interval_is_that_of_scipy_and_one_value_has_none():
    values = [97.1, 96.4, 97.9, 97.0]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    found = interval(values)
    assert (found.mean, found.n) == (pytest.approx(np.mean(values)), 4)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))
    assert interval([97.1]) is None


def test_an_interval_holds_the_true_mean_in_95_of_100_cases():
    chance = np.random.default_rng(0)
    found = [interval(list(chance.normal(3.0, 2.0, 3))) for _ in range(4000)]
    assert np.mean([one.low <= 3.0 <= one.high for one in found]) == pytest.approx(0.95, abs=0.01)


def test_a_difference_is_paired_by_the_seeds_that_both_have():
    ours, others = {0: 90.0, 1: 80.0, 2: 70.0, 7: 0.0}, {2: 69.1, 1: 78.9, 0: 89.0, 5: 99.0}
    found = paired_difference(ours, others)
    assert (found.n, found.mean) == (3, pytest.approx(1.0))
    assert found.excludes_zero  # unpaired, the seeds' own differences would hide it
    assert not paired_difference(ours, {0: 89.0, 1: 81.0, 2: 70.1}).excludes_zero
    assert paired_difference(ours, {0: 1.0}) is None
