"""The rungs of a resumed sweep: the same as if it had not been interrupted."""

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler

from searches.spec.strategy import SchedulerSpec
from searches.tune.scheduler import to_scheduler
from tests.support.known_trials import trial
from trainables.trial_job import EPOCH, SCORE, TRIAL

EPOCHS = 12
ASHA = SchedulerSpec(grace_epochs=3, reduction_factor=3)


class TuneTrial:
    def __init__(self, number):
        self.trial_id, self.config = f"tune-{number}", {TRIAL: f"{number:04d}"}


def scores(number, epochs):
    return tuple(10.0 * number + epoch for epoch in range(1, epochs + 1))


def rungs(scheduler):
    """Every rung's scores, without the names."""
    return [
        [(milestone, sorted(recorded.values())) for milestone, recorded in bracket._rungs]
        for bracket in scheduler._brackets
    ]


def told(scheduler, number, epochs):
    """A trial that Tune runs, and what halving says at its last epoch."""
    one = TuneTrial(number)
    scheduler.on_trial_add(None, one)
    for epoch in epochs:
        said = scheduler.on_trial_result(None, one, {EPOCH: epoch, SCORE: scores(number, EPOCHS)[epoch - 1]})
    return said


def test_a_resumed_sweep_has_the_rungs_of_one_that_was_not_interrupted():
    for kind in ("asha", "hyperband"):
        spec = ASHA.model_copy(update={"kind": kind, "brackets": 2})
        never = to_scheduler(spec, EPOCHS)
        for number, ran in ((5, 12), (2, 3), (7, 10)):
            told(never, number, range(1, ran + 1))
        known = [trial(5, "finished", scores(5, 12)), trial(2, "stopped", scores(2, 3))]
        again = to_scheduler(spec, EPOCHS, [*known, trial(7, "unfinished", scores(7, 8))])
        told(again, 7, range(8, 11))
        assert rungs(again) == rungs(never)


def test_an_early_stop_that_a_kill_prevented_is_decided_again():
    known = [trial(5, "finished", scores(5, 12)), trial(6, "finished", scores(6, 12))]
    again = to_scheduler(ASHA, EPOCHS, [*known, trial(1, "unfinished", scores(1, 3))])
    assert told(again, 1, [3]) == "STOP"


def test_asha_counts_our_epochs():
    scheduler = to_scheduler(SchedulerSpec(grace_epochs=3), epochs=12)
    assert isinstance(scheduler, AsyncHyperBandScheduler)
    assert scheduler._time_attr == "epoch"
    assert [[epoch for epoch, _ in bracket._rungs] for bracket in scheduler._brackets] == [[9, 3]]


def test_hyperband_has_brackets_that_start_to_halve_later():
    scheduler = to_scheduler(SchedulerSpec(kind="hyperband", grace_epochs=2, reduction_factor=2), epochs=12)
    assert [[epoch for epoch, _ in bracket._rungs] for bracket in scheduler._brackets] == [[8, 4, 2], [8, 4], [8]]
    short = to_scheduler(SchedulerSpec(kind="hyperband", grace_epochs=3, brackets=9), epochs=12)
    assert [[epoch for epoch, _ in bracket._rungs] for bracket in short._brackets] == [[9, 3], [9]]


def test_no_scheduler_where_every_trial_gets_all_epochs():
    assert type(to_scheduler(SchedulerSpec(kind="none"), epochs=12)) is FIFOScheduler
    assert type(to_scheduler(SchedulerSpec(grace_epochs=12), epochs=12)) is FIFOScheduler
