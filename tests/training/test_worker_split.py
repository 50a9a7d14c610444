"""What workers send and need, and what `auto` chooses by it."""

import pytest

from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace
from mcl_ray.config.parallelism import WorkerSplit
from mcl_ray.data.source import dataset_for
from mcl_ray.reports.dry_run import run_dry_run
from mcl_ray.training.estimate import estimate_run
from mcl_ray.training.worker_split import Size, chosen_split, cost_of_split, costs_of_splits

CIFAR = Size(100, (3, 32, 32), 50_000)
IMAGENET = Size(1000, (3, 224, 224), 1_281_167)
LARGE_BATCH = replace(recipes.cifar(), {"batch.size": 8192, "batch.per_class": 128, "losses.contrast": "local"})
DATA, APART = WorkerSplit((2,), 2), WorkerSplit((1, 1), 1)


def test_peers_apart_send_their_logits_and_embeddings_to_every_other_worker():
    run = replace(recipes.cifar(), {"cohort.size": 4, "cohort.sharing": "none"})
    assert cost_of_split(run, WorkerSplit((1,) * 4, 1), CIFAR).sent_bytes == 4 * 3 * 128 * (100 + 128)
    assert cost_of_split(run, WorkerSplit((2, 2), 1), CIFAR).sent_bytes == 4 * 2 * 128 * (100 + 128)


def test_workers_that_share_batches_send_gradients_twice_but_for_their_own_part():
    run = recipes.cifar()
    size = Size(100, (3, 32, 32), 50_000)
    sent = cost_of_split(run, DATA, size).sent_bytes
    parameters = estimate_run(run, Environment()).parameters
    assert sent == 4 * (parameters + 2 * 64 * 128), "gradients, and half the embeddings of two peers"
    mixed = cost_of_split(run, WorkerSplit((1, 1), 2), size).sent_bytes
    assert mixed == 4 * (64 * (100 + 128) + parameters // 2 + 2 * 64 * 128)


def test_a_shared_stem_is_summed_too():
    own = replace(recipes.cifar(), {"cohort.size": 3, "cohort.sharing": "none"})
    shared = replace(own, {"cohort.sharing": "stem"})
    split = WorkerSplit((1, 1, 1), 1)
    difference = cost_of_split(shared, split, CIFAR).sent_bytes - cost_of_split(own, split, CIFAR).sent_bytes
    assert 0 < difference < 4 * estimate_run(shared, Environment()).parameters / 10


def test_keys_of_moco_are_sent_beside_queries_and_queues_are_whole():
    run = recipes.moco()
    apart, together = (cost_of_split(run, split, IMAGENET) for split in (APART, DATA))
    assert apart.sent_bytes == 4 * 256 * 2 * 128
    assert together.sent_bytes > 4 * 128 * 3 * 224 * 224, "images whose keys the other computes"
    queues = 4 * 2 * 65_536 * 128
    assert queues < apart.memory.state < together.memory.state


def test_peers_apart_need_the_memory_of_their_own_peers():
    apart, together = (cost_of_split(recipes.cifar(), split, CIFAR) for split in (APART, DATA))
    assert apart.memory.state == together.memory.state / 2
    assert apart.memory.activations == pytest.approx(together.memory.activations, rel=0.02), "two halves of a batch"


@pytest.mark.parametrize(
    ("run", "size", "workers", "chosen"),
    [
        (recipes.imagenet(), IMAGENET, 2, APART),
        (recipes.cifar(), CIFAR, 3, WorkerSplit((2,), 3)),
        (replace(recipes.cifar(), {"cohort.size": 4}), CIFAR, 3, WorkerSplit((4,), 3)),  # 2, 1 and 1 peers would wait
        (replace(recipes.digits(), {"batch.size": 400, "batch.per_class": 40}), Size(10, (1, 8, 8), 1437), 2, APART),
        (LARGE_BATCH, CIFAR, 2, DATA),
    ],
)
def test_auto_sends_least(run, size, workers, chosen):
    costs = costs_of_splits(run, "auto", workers, size)
    assert costs[0].split == chosen
    assert costs[0].sent_bytes == min(cost.sent_bytes for cost in costs if cost.split.is_even)


@pytest.mark.slow
def test_training_chooses_as_the_dry_run():
    run = replace(recipes.digits(), {"cohort.size": 4})
    plan = estimate_run(run, Environment(parallelism="auto"), (4, 4))
    assert len(plan.splits) == 3
    assert chosen_split(run, dataset_for(run, Environment()), "auto", 4) == plan.splits[0].split
    assert (plan.state_bytes, plan.activation_bytes) == tuple(plan.splits[0].memory)


def test_a_dry_run_shows_what_each_worker_sends():
    run = recipes.digits()
    plan = estimate_run(run, Environment(parallelism="cohort"), (2, 2))
    text = run_dry_run(run, plan, (2, 2))
    assert "# workers          2, who share batches of 40 images\n" in text
    assert "# each worker      1 of 2 peers, the whole batch: sends 0.01 MB a step, about " in text
    assert "# or               all peers, 2 parts of every batch: sends " in text
    assert "each worker" not in run_dry_run(run, estimate_run(run, Environment()))
