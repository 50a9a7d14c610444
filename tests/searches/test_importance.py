import random

import optuna

from mcl_ray.analysis.ranking import Ranked
from searches.importance import MIN_CONFIGURATIONS, importances


def rows_of(count, value, state="finished"):
    chance = random.Random(0)
    rows = []
    for place in range(count):
        searched = {
            "losses.alpha": 10 ** chance.uniform(-3, 1),
            "losses.beta": chance.uniform(0, 1),
            "batch.sampler": chance.choice(["reference", "balanced"]),
            "losses.tau": 0.1,
        }
        if place % 2:
            searched["losses.lam"] = 1.0
        rows.append(
            Ranked(
                place=place,
                run_ids=(str(place),),
                trial_id=None,
                searched=searched,
                state=state,
                reason=None,
                value=value(searched),
                score=value(searched),
                std=None,
                n=1,
                best_peer_best_epoch=None,
                epochs_done=1,
                wall_time_s=1.0,
            )
        )
    return rows


def test_the_parameter_that_makes_the_difference_comes_first():
    rows = rows_of(40, lambda searched: 10 * searched["losses.beta"] + (searched["batch.sampler"] == "balanced"))
    before = optuna.logging.get_verbosity()
    found = importances(rows)
    assert next(iter(found.values)) == "losses.beta"
    assert set(found.values) == {"losses.alpha", "losses.beta", "batch.sampler"}
    assert abs(sum(found.values.values()) - 1) < 1e-9
    assert found == importances(rows)
    assert optuna.logging.get_verbosity() == before


def test_a_category_can_matter_most():
    found = importances(
        rows_of(40, lambda searched: 5.0 * (searched["batch.sampler"] == "balanced") + 0.01 * searched["losses.beta"])
    )
    assert next(iter(found.values)) == "batch.sampler"


def test_too_few_or_too_like_give_a_reason():
    few = importances(rows_of(MIN_CONFIGURATIONS - 1, lambda searched: searched["losses.beta"]))
    assert (few.values, few.reason) == ({}, "importances need at least 8 configurations with a value, but got 7")
    running = importances(rows_of(20, lambda searched: searched["losses.beta"], state="running"))
    assert "but got 0" in running.reason
    assert "an objective that varies, but every value is 1.0" in importances(rows_of(20, lambda _: 1.0)).reason
