"""Peers on different workers against one process: the same losses, gradients, states, records and checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import parse, replace
from mcl_ray.config.spec import RunSpec
from mcl_ray.training.checkpoint import CheckpointFolder
from mcl_ray.training.optim import state_of_all_peers
from tests.support.pictures import write_folder
from tests.support.small_runs import METHODS, SMALL, Parts, train_some_epochs
from tests.support.workers import some_workers

STEPS = 2
OWN_STEMS, SHARED_STEM = ("cohort.size=3", "sharing=none"), ("cohort.size=3", "sharing=stem")
WHOLE_BATCH = "batch_statistics=synchronised"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("pictures") / "pictures")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with some_workers(tmp_path_factory.mktemp("pair")) as workers:
        yield workers


@pytest.fixture(scope="module")
def trio(tmp_path_factory):
    with some_workers(tmp_path_factory.mktemp("trio"), 3) as workers:
        yield workers


@pytest.fixture(scope="module")
def quartet(tmp_path_factory):
    with some_workers(tmp_path_factory.mktemp("quartet"), 4) as workers:
        yield workers


def spec_of(method: str, *overrides: str) -> RunSpec:
    recipe, *fields = METHODS[method]
    return with_fields(recipe(), *fields, *SMALL, "lr=0.02", *overrides)


def with_fields(spec: RunSpec, *overrides: str) -> RunSpec:
    """Of several overrides of a field, the last counts."""
    return replace(spec, parse(RunSpec, {text.partition("=")[0]: text for text in overrides}.values()))


def first_steps(spec, folder, parallelism="data", dtype=torch.float32):
    """By name: the losses of each step, the first gradients, and what is learned after the last; of rank 0, of all."""
    torch.set_num_threads(1)
    parts, found = Parts(spec, folder, parallelism, dtype), {}
    for number, batch in enumerate(parts.batches(STEPS)):
        found |= {f"step {number}: {name}": value for name, value in parts.step(batch).items()}
        if number == 0:
            own = {f"gradient of {n}": p.grad.clone() for n, p in parts.cohort.named_parameters() if p.grad is not None}
            found |= parts.cohort.entries_of_all_peers(own)
    if parts.layout.batch.rank > 0:
        return found
    momentum = state_of_all_peers(parts.optimizer, parts.cohort)["state"]
    found |= {f"momentum {index}": entry["momentum_buffer"] for index, entry in momentum.items()}
    found |= parts.cohort.state_of_all_peers()
    for name, value in parts.method.state_dict().items():
        if name == "encoders":
            found |= {f"key {encoder}": tensor for encoder, tensor in value.items()}
        else:
            found[name] = torch.as_tensor(value)
    return found


def assert_close(found, expected, tolerance=1e-6):
    """Equal names; values equal up to `tolerance` of one, or of each tensor's largest."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = max(1.0, float(value.abs().max())) if value.numel() else 1.0
        atol = tolerance * scale
        torch.testing.assert_close(found[name], value, rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


def assert_learns_as_one(group, spec, folder, dtype=torch.float32, tolerance=1e-6):
    """The first worker's losses, gradients and states; the losses of the others."""
    alone = first_steps(spec, folder, dtype=dtype)
    assert len(alone) > 100
    first, *others = group.run(first_steps, spec, folder, "cohort", dtype)
    assert_close(first, alone, tolerance)
    losses = {name: value for name, value in alone.items() if name.startswith("step")}
    for found in others:
        assert_close({name: found[name] for name in losses}, losses, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["supervised", "supervised_bank", "moco"])
def test_two_workers_of_one_peer_learn_as_one_process(pair, folder, method):
    assert_learns_as_one(pair, spec_of(method), folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("supervised", OWN_STEMS),
        ("moco", OWN_STEMS),
        ("supervised", ("cohort.size=4", "networks=[resnet8,wrn_16_2,resnet8,resnet8]")),
    ],
)
def test_three_workers_learn_as_one_process(trio, folder, method, fields):
    """The last with peers of two networks, two of them on the first worker."""
    assert_learns_as_one(trio, spec_of(method, *fields), folder)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["supervised", "supervised_bank", "moco"])
def test_a_shared_stem_has_the_gradients_of_all_peers(trio, folder, method):
    """In float64, since they are summed in another order; the bank's logits teach the last peer and the mean."""
    assert_learns_as_one(trio, spec_of(method, *SHARED_STEM), folder, torch.float64)


@pytest.mark.slow
def test_without_contrast_the_heads_stay_as_they_are(pair, folder):
    zero = ("alpha=0", "beta=0", "gamma=0", "lam=0")
    assert_learns_as_one(pair, spec_of("supervised", *zero), folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "fields"),
    [("supervised", ()), ("supervised", ("sharing=stem",)), ("supervised_bank", ()), ("moco", ())],
)
def test_four_workers_of_two_peers_share_the_batch_too(quartet, folder, method, fields):
    """In float64, since parts of a batch are rounded otherwise than the whole; losses are computed in float32."""
    assert_learns_as_one(quartet, spec_of(method, WHOLE_BATCH, *fields), folder, torch.float64, 1e-5)


def digits(*overrides: str) -> RunSpec:
    """Two epochs of three steps."""
    small = ("networks=resnet8", "epochs=2", "batch.size=400", "per_class=40", "validation_fraction=0.1")
    return with_fields(recipes.digits(), *small, *OWN_STEMS, *overrides)


def train(root: Path, spec: RunSpec, parallelism: str, num_epochs: int = 2, data: Path = Environment.data):
    """Begin or go on with a run, whichever workers began it; the figures of each epoch, or the error."""
    environment = Environment(threads=1, device="cpu", parallelism=parallelism, data=data, results=root, readers=0)
    return train_some_epochs(root, spec, environment, num_epochs)


def checkpoint_in(root: Path):
    (folder,) = (root / "runs").iterdir()
    found, _ = CheckpointFolder(folder / "checkpoints").latest()
    return found


@pytest.mark.slow
def test_records_and_checkpoints_are_those_of_one_process(trio, tmp_path):
    spec = digits()
    alone = train(tmp_path / "alone", spec, "data")
    first, *others = trio.run(train, tmp_path / "apart", spec, "cohort")
    assert all(found == first for found in others)
    for (epoch, values), (expected_epoch, expected) in zip(first, alone, strict=True):
        assert epoch == expected_epoch
        assert list(values) == list(expected)
        assert values == pytest.approx(expected, rel=1e-6)
    found, expected = checkpoint_in(tmp_path / "apart"), checkpoint_in(tmp_path / "alone")
    assert (found.architecture, found.digest) == (expected.architecture, expected.digest)
    assert list(found.cohort) == list(expected.cohort)
    assert found.optimizer["param_groups"] == expected.optimizer["param_groups"]
    assert list(found.optimizer["state"]) == list(expected.optimizer["state"])
    for name, tensor in expected.cohort.items():
        torch.testing.assert_close(found.cohort[name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("started", ["cohort", "data", "alone"])
def test_a_run_goes_on_with_another_parallelism(trio, tmp_path, started):
    """Of an uninterrupted run of one process; parts of a batch are rounded otherwise."""
    spec, root = digits(WHOLE_BATCH), tmp_path / "both"
    whole = train(tmp_path / "whole", spec, "data")
    if started == "alone":
        train(root, spec, "data", 1)
    else:
        trio.run(train, root, spec, started, 1)
    if started == "cohort":
        again, last = train(root, spec, "data")
    else:
        again, last = trio.run(train, root, spec, "cohort")[0]
    loss, tolerance = ("cohort", "train", "loss"), 0.05 if started == "data" else 1e-6
    for (epoch, found), (expected_epoch, expected) in zip((again, last), whole, strict=True):
        assert (epoch, found.keys()) == (expected_epoch, expected.keys())
        assert found[loss] == pytest.approx(expected[loss], rel=tolerance)
    if started != "data":
        assert last[1] == pytest.approx(whole[1][1], rel=1e-6)


@pytest.mark.slow
def test_moco_is_scored_and_resumed_as_by_one_process(pair, folder, tmp_path):
    spec = spec_of("moco", "epochs=2")
    alone, apart = tmp_path / "alone", tmp_path / "apart"
    expected = train(alone, spec, "data", 2, folder)
    pair.run(train, apart, spec, "cohort", 1, folder)
    found, same = pair.run(train, apart, spec, "cohort", 2, folder)
    assert found == same
    for (_, values), (_, wanted) in zip(found, expected, strict=True):
        assert values == pytest.approx(wanted, rel=1e-5)
    assert ("mean", "test", "knn_top1") in found[-1][1]
    state, wanted = checkpoint_in(apart).method, checkpoint_in(alone).method
    assert list(state["encoders"]) == list(wanted["encoders"])
    torch.testing.assert_close(state["keys"], wanted["keys"], rtol=0, atol=1e-5)
    assert state["pointer"] == wanted["pointer"]


@pytest.mark.slow
def test_a_run_that_fails_fails_on_every_worker(pair, tmp_path):
    spec = digits("cohort.size=2", "lr=1e30")
    first, second = pair.run(train, tmp_path, spec, "cohort")
    assert first == second
    assert first[0] == "NonFiniteLossError"
