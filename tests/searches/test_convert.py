import optuna
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler

from searches import catalog
from searches.convert import to_distributions, to_scheduler
from searches.space import Choice, FloatRange, IntRange
from searches.spec import SchedulerSpec


def test_every_dimension_becomes_the_distribution_of_its_values():
    space = {
        "a": FloatRange(low=0, high=2),
        "b": FloatRange(low=0.01, high=1, log=True),
        "c": IntRange(kind="int", low=1, high=4),
        "d": Choice(kind="choice", values=("resnet8", "resnet20")),
    }
    distributions = to_distributions(space)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trials = [study.ask(distributions) for _ in range(50)]
    for name, dimension in space.items():
        drawn = [trial.params[name] for trial in trials]
        assert all(value in dimension for value in drawn)
        assert len(set(drawn)) >= 2
    assert {trial.params["c"] for trial in trials} == {1, 2, 3, 4}
    assert sum(trial.params["b"] < 0.1 for trial in trials) > 15


def test_asha_counts_our_epochs():
    scheduler = to_scheduler(SchedulerSpec(grace_epochs=3), epochs=12)
    assert isinstance(scheduler, AsyncHyperBandScheduler)
    assert scheduler._time_attr == "epoch"


def test_no_scheduler_where_every_trial_gets_all_epochs():
    assert type(to_scheduler(SchedulerSpec(kind="none"), epochs=12)) is FIFOScheduler
    assert type(to_scheduler(SchedulerSpec(grace_epochs=12), epochs=12)) is FIFOScheduler


def test_both_searches_convert():
    for name in catalog.SEARCHES:
        assert set(to_distributions(catalog.load(name).space)) == set(catalog.load(name).space)
