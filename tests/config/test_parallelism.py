"""How workers share a run: which splits there are, and which workers cannot."""

import pytest

from mcl_ray.config import recipes
from mcl_ray.config.overrides import replace
from mcl_ray.config.parallelism import WorkerSplit, most_batch_parts, possible_splits
from mcl_ray.errors import SpecError


def of_size(peers, **fields):
    return replace(recipes.digits(), {"cohort.size": peers} | fields)


@pytest.mark.parametrize(
    ("peers", "workers", "groups", "batch_parts"),
    [
        (2, 2, (1, 1), 1),
        (3, 3, (1, 1, 1), 1),
        (4, 2, (2, 2), 1),
        (4, 3, (2, 1, 1), 1),
        (2, 4, (1, 1), 2),
        (4, 8, (1, 1, 1, 1), 2),
        (4, 6, (2, 2), 3),  # three groups would leave two peers to one of them, on half the batch
        (5, 4, (3, 2), 2),  # three peers on half the batch are less than two on all of it
        (5, 6, (2, 2, 1), 2),
    ],
)
def test_the_fewest_peers_for_the_busiest_worker(peers, workers, groups, batch_parts):
    (split,) = possible_splits(of_size(peers), "cohort", workers)
    assert split == WorkerSplit(groups, batch_parts)
    assert split.workers == workers
    assert [index for group in range(len(groups)) for index in split.peers_of(group)] == list(range(peers))


@pytest.mark.parametrize("parallelism", ["data", "cohort", "auto"])
def test_one_worker_has_all(parallelism):
    assert possible_splits(of_size(2), parallelism, 1) == [WorkerSplit((2,), 1)]


def test_auto_considers_all_and_data_none_apart():
    assert possible_splits(of_size(4), "data", 4) == [WorkerSplit((4,), 4)]
    found = possible_splits(of_size(4), "auto", 4)
    assert set(found) == {WorkerSplit((1,) * 4, 1), WorkerSplit((2, 2), 2), WorkerSplit((4,), 4)}
    assert possible_splits(of_size(1), "auto", 3) == [WorkerSplit((1,), 3)]
    linear = replace(recipes.lincls(), {"linear.backbone": "random"})
    assert possible_splits(linear, "auto", 2) == [WorkerSplit((2,), 2)]


@pytest.mark.parametrize(
    ("run", "workers", "rule"),
    [
        (of_size(2), 3, "that a number from 2 to `cohort.size` divides, but got workers=3, cohort.size=2"),
        (of_size(1), 2, "that a number from 2 to `cohort.size` divides, but got workers=2, cohort.size=1"),
        (
            replace(recipes.lincls(), {"linear.backbone": "random"}),
            2,
            "`parallelism=cohort` requires a method that trains peers apart, but got method=linear",
        ),
    ],
)
def test_workers_that_cannot(run, workers, rule):
    with pytest.raises(SpecError) as raised:
        possible_splits(run, "cohort", workers)
    assert rule in str(raised.value)


def test_every_number_of_an_elastic_group_must_be_possible():
    assert most_batch_parts(of_size(4), "cohort", (1, 4)) == 1
    assert most_batch_parts(of_size(2), "cohort", (4, 4)) == 2
    assert most_batch_parts(of_size(2), "data", (1, 4)) == 4
    assert most_batch_parts(of_size(4), "auto", (2, 8)) == 7, "seven workers have no peers apart"
    with pytest.raises(SpecError, match="workers=3, cohort"):
        most_batch_parts(of_size(2), "cohort", (1, 4))


def test_a_split_is_said_in_words():
    assert str(WorkerSplit((2,), 4)) == "all peers, 4 parts of every batch"
    assert str(WorkerSplit((2, 1, 1), 1)) == "1 or 2 of 4 peers, the whole batch"
