"""Seeds in lockstep: which runs wait, and what happens to the others when one fails."""

import pytest

from mcl_ray.callbacks import EpochEnd
from mcl_ray.errors import NonFiniteLossError, StoreError, TrainingError
from mcl_ray.training.multi_seed import run_in_lockstep

LAST = 4


class Seed:
    """A run that records what it does."""

    def __init__(self, starts_at=1, fails_at=None):
        self.starts_at, self.fails_at = starts_at, fails_at
        self.epochs, self.was_closed = [], False

    def __iter__(self):
        try:
            for epoch in range(self.starts_at, LAST + 1):
                if epoch == self.fails_at:
                    raise NonFiniteLossError("loss", float("nan"), epoch, 1)
                self.epochs.append(epoch)
                yield EpochEnd(epoch=epoch, rows=[])
        except GeneratorExit:
            self.was_closed = True
            raise


def epochs_of(ends):
    return [one.epoch for one in ends]


def together(*seeds):
    return run_in_lockstep([iter(seed) for seed in seeds])


def test_all_finish_an_epoch_before_any_starts_the_next():
    seeds = Seed(), Seed(), Seed()
    for epoch, ends in enumerate(together(*seeds), start=1):
        assert epochs_of(ends) == [epoch] * 3
        assert all(seed.epochs[-1] == epoch for seed in seeds)
    assert epoch == LAST


def test_runs_that_resume_later_wait_for_the_others():
    ahead, behind = Seed(starts_at=3), Seed(starts_at=1)
    assert [epochs_of(ends) for ends in together(ahead, behind)] == [[3, 3], [4, 4]]
    assert behind.epochs == [1, 2, 3, 4]


def test_more_than_half_continue_without_those_that_fail():
    ends = list(together(Seed(), Seed(fails_at=2), Seed()))
    assert [len(one) for one in ends] == [3, 2, 2, 2]


def test_half_do_not_continue_and_the_others_are_closed():
    active, failing = Seed(), Seed(fails_at=3)
    run = together(active, failing)
    assert [epochs_of(next(run)) for _ in range(2)] == [[1, 1], [2, 2]]
    with pytest.raises(TrainingError, match="`failed seeds < seeds / 2` must hold, but 1 of 2 seeds failed: "):
        next(run)
    assert active.was_closed


def test_the_only_seed_fails_with_its_own_error():
    with pytest.raises(NonFiniteLossError):
        list(together(Seed(fails_at=2)))


def test_closing_stops_every_seed():
    seeds = Seed(), Seed()
    run = together(*seeds)
    next(run)
    run.close()
    assert all(seed.was_closed and seed.epochs == [1] for seed in seeds)


class Broken(Seed):
    """Fails with an error that is not an MclError."""

    def __iter__(self):
        yield EpochEnd(epoch=1, rows=[])
        raise RuntimeError("of torch")


def test_an_error_that_is_not_ours_ends_every_seed_as_failed():
    ends = []

    def active():
        try:
            yield from Seed()
        except BaseException as error:
            ends.append(type(error))
            raise

    run = run_in_lockstep([active(), iter(Broken()), active()])
    next(run)
    with pytest.raises(RuntimeError, match="of torch"):
        next(run)
    assert ends == [RuntimeError, RuntimeError]


def test_results_that_cannot_be_written_end_all_seeds_with_that_error():
    raised = []

    def seed(number):
        try:
            yield EpochEnd(epoch=1, rows=[])
            if number == 1:
                raise StoreError("no space left")
            yield EpochEnd(epoch=2, rows=[])
        except StoreError as error:
            raised.append((number, str(error)))
            raise

    run = run_in_lockstep([seed(number) for number in range(3)])
    next(run)
    with pytest.raises(StoreError, match="no space left"):
        next(run)
    assert sorted(raised) == [(number, "no space left") for number in range(3)]
