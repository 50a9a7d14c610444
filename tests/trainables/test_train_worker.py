"""Errors of one seed, as they reach the other seeds of a trial that a group of workers trains."""

import pytest

from mcl_ray.callbacks import EpochEnd
from mcl_ray.errors import StoreError
from mcl_ray.training.multi_seed import run_in_lockstep
from trainables.train_worker import RankLocalError, _with_rank_local_errors


def test_an_error_that_one_seed_met_alone_reaches_the_others_as_itself():
    raised = []

    def seed(number):
        try:
            yield EpochEnd(epoch=1, rows=[])
            if number == 0:
                raise StoreError("no space left")
            yield EpochEnd(epoch=2, rows=[])
        except Exception as error:
            raised.append((number, type(error)))
            raise

    run = run_in_lockstep([_with_rank_local_errors(seed(number)) for number in range(2)])
    next(run)
    with pytest.raises(RankLocalError, match="no space left"):
        next(run)
    assert raised == [(0, StoreError), (1, StoreError)]
