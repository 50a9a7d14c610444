"""Two workers against one: the same losses, gradients, scores and errors; and what they send to each other."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from mcl_ray import distributed
from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import parse, replace
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.augment import epoch_generator
from mcl_ray.data.dataset import Dataset, ImageSet
from mcl_ray.data.sampling import ClassBalancedSampler
from mcl_ray.data.source import dataset_for
from mcl_ray.distributed import SINGLE_SHARD, BatchShards
from mcl_ray.errors import DataError, MclError, NonFiniteLossError, StoreError
from mcl_ray.methods.method import Batch
from mcl_ray.methods.supervised import supervised_losses
from mcl_ray.results.store import RunWriter, read_runs
from mcl_ray.training.build import data_parallel, place_cohort
from mcl_ray.training.evaluate import evaluate
from mcl_ray.training.image_loader import DeviceImages
from mcl_ray.training.loaders import build_augment
from mcl_ray.training.metrics import StepMeter
from mcl_ray.training.recorded_run import score_test_split
from tests.support.commands import HANGS_AFTER_S
from tests.support.forked import ForkedProcess
from tests.support.ports import free_port
from tests.support.small_runs import figures, train_some_epochs
from tests.support.workers import MODULES, some_workers

CPU = torch.device("cpu")
ANYWHERE = Environment(threads=1, device="cpu")
PUBLISHED = {"cohort.networks": ("resnet8",), "losses.logit_distillation": "all"}
DEEP = PUBLISHED | {"cohort.networks": ("resnet32",)}
SHARED_STEM = {"cohort.networks": ("resnet8",), "cohort.size": 3, "losses.logit_distillation": "reference"}
NO_CONTRAST = {f"losses.{weight}": 0 for weight in ("alpha", "beta", "gamma", "lam")}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    with some_workers(tmp_path_factory.mktemp("pair")) as workers:
        yield workers


@pytest.fixture(scope="module")
def trio(tmp_path_factory):
    with some_workers(tmp_path_factory.mktemp("trio"), 3) as workers:
        yield workers


def a_spec(**fields) -> RunSpec:
    """Batches of 8 classes × 2 images, augmented, statistics of the whole batch."""
    values = {"batch.size": 16, "batch.per_class": 2, "compute.batch_statistics": "synchronised"}
    return replace(recipes.cifar(), values | fields)


def noise() -> Dataset:
    """40 noisy images of ten classes."""
    rng = np.random.default_rng(0)
    images = ImageSet(
        images=rng.integers(256, size=(40, 3, 16, 16), dtype=np.uint8), labels=np.arange(40, dtype=np.int64) % 10
    )
    names = tuple("abcdefghij")
    return Dataset(name="noise", class_names=names, mean=(0.5,) * 3, std=(0.3,) * 3, train=images, test=images)


def without_kinks(module: torch.nn.Module) -> None:
    """ReLU makes jumps of rounding errors: in float32, another memory layout alone moves resnet32's gradient by 9 %."""
    for name, child in module.named_children():
        if isinstance(child, torch.nn.ReLU):
            setattr(module, name, torch.nn.SiLU())
        without_kinks(child)


def one_step(spec: RunSpec, dtype: torch.dtype = torch.float64, part: int | None = None) -> dict[str, torch.Tensor]:
    """Means over the workers of what the first step yields: losses, gradients, running statistics.

    With `part`, what one worker alone makes of that half of the batch.
    """
    rank, world_size = (distributed.rank(), distributed.world_size()) if part is None else (part, 2)
    dataset = noise()
    torch.manual_seed(spec.seed)
    cohort = place_cohort(spec, dataset, CPU).to(dtype)
    if dtype == torch.float32:
        without_kinks(cohort)
    peers = data_parallel(cohort, CPU)
    augment = build_augment(spec, dataset)
    images = DeviceImages(dataset.train, augment, CPU)
    sampler = ClassBalancedSampler(dataset.train.labels, spec.batch, spec.seed)
    indices = torch.from_numpy(sampler.epoch(0, rank, world_size))[0]
    shares, generator = BatchShards(sampler.shares(world_size)), epoch_generator(0, 0, CPU)
    if part is None:
        pixels = images.augmented(indices, generator, shares)
    else:
        pixels = augment(images.images[indices], generator, start=sum(shares.sizes[:part]), whole=shares.whole)
        shares = SINGLE_SHARD
    losses = supervised_losses(peers, Batch(pixels.to(dtype), images.labels[indices], indices, shares), spec.losses)
    losses.total.backward()
    found = {
        f"loss {name}": distributed.all_reduce_mean_(value.detach().clone()) for name, value in losses.terms.items()
    }
    found["loss"] = distributed.all_reduce_mean_(losses.total.detach().clone())
    found |= {f"gradient {name}": p.grad for name, p in cohort.named_parameters() if p.grad is not None}
    return found | {f"running {name}": b.to(dtype) for name, b in cohort.named_buffers()}


def assert_close(first, second, tolerance):
    """Equal names; values equal up to `tolerance` of one, or of each tensor's largest."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        scale = max(1, float(second[name].abs().max()))
        torch.testing.assert_close(
            value, second[name], rtol=0, atol=tolerance * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize(
    ("fields", "dtype", "tolerance"),
    [
        pytest.param(PUBLISHED, torch.float64, 1e-6, marks=pytest.mark.slow),  # the losses are computed in float32
        (SHARED_STEM, torch.float64, 1e-6),
        pytest.param(DEEP, torch.float32, 1e-4, marks=pytest.mark.slow),  # rounded in 64 layers
        (SHARED_STEM, torch.float32, 1e-5),
    ],
)
def test_two_halves_of_a_batch_are_the_batch(pair, fields, dtype, tolerance):
    both = pair.run(one_step, a_spec(**fields), dtype)
    alone = one_step(a_spec(**fields), dtype)
    assert {"loss", "loss vcl", "loss icl", "loss soft_vcl", "loss soft_icl", "loss logit_distillation"} <= set(alone)
    assert len(alone) > 100
    for found in both:
        assert_close(found, alone, tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("fields", [PUBLISHED, SHARED_STEM])
def test_unequal_parts_of_a_batch_are_the_batch(trio, fields):
    """Eight classes among three workers."""
    alone = one_step(a_spec(**fields))
    for found in trio.run(one_step, a_spec(**fields)):
        assert_close(found, alone, 1e-6)


@pytest.mark.slow
def test_local_contrast_and_statistics_are_each_workers_own(pair):
    spec = a_spec(**{"losses.contrast": "local", "compute.batch_statistics": "local", "cohort.networks": ("resnet8",)})
    both = pair.run(one_step, spec)
    halves = [one_step(spec, part=part) for part in range(2)]
    means = {name: (halves[0][name] + halves[1][name]) / 2 for name in halves[0]}
    for found, half in zip(both, halves, strict=True):
        running = {name: value for name, value in half.items() if name.startswith("running")}
        assert_close(found, means | running, 1e-6)
    assert abs(float(both[0]["loss icl"]) - float(one_step(spec)["loss icl"])) > 1e-3


def two_epochs_of_steps(spec: RunSpec) -> list[bool]:
    """Which heads have gradients after each of two steps."""
    dataset = noise()
    peers = data_parallel(cohort := place_cohort(spec, dataset, CPU), CPU)
    batch = Batch(torch.randn(8, 3, 16, 16), torch.arange(4).repeat(2), torch.arange(8), BatchShards((8, 8)))
    for _ in range(2):
        cohort.zero_grad()
        supervised_losses(peers, batch, spec.losses).total.backward()
    return [parameter.grad is not None for parameter in cohort.heads.parameters()]


@pytest.mark.parametrize(
    ("fields", "learn"), [(NO_CONTRAST, False), ({"cohort.size": 1, "losses.alpha": 0}, False), ({}, True)]
)
def test_heads_without_a_loss_do_not_block_workers(pair, fields, learn):
    for found in pair.run(two_epochs_of_steps, a_spec(**{"cohort.networks": ("resnet8",)} | fields)):
        assert set(found) == {learn}


def scores(batch_size: int):
    spec, dataset = a_spec(**{"cohort.networks": ("resnet8",)}), noise()
    torch.manual_seed(0)
    cohort = place_cohort(spec, dataset, CPU)
    if distributed.rank() == 1:  # the statistics of another worker, that must not count
        for buffer in cohort.buffers():
            buffer += 1
    distributed.broadcast_buffers(cohort)
    images = DeviceImages(dataset.test, build_augment(spec, dataset), CPU)
    with torch.inference_mode():
        return evaluate(cohort.eval().logits, images, batch_size, cohort.num_peers)


@pytest.mark.parametrize("batch_size", [7, 100])
def test_scores_are_those_of_one_worker_to_the_bit(pair, batch_size):
    alone = scores(batch_size)
    assert pair.run(scores, batch_size) == [alone, alone]


def read_meter(bad_rank: int | None) -> object:
    meter = StepMeter(2, CPU)
    try:
        for step in range(3):
            value = float("nan") if step == 1 and distributed.rank() == bad_rank else float(distributed.rank())
            if meter.record({"vcl": torch.tensor(1.0), "loss": torch.tensor(value)}):
                meter.read(epoch=3)
        meter.read(epoch=3)
    except NonFiniteLossError as error:
        return str(error)
    return meter.means()


def test_losses_are_means_over_the_workers(pair):
    assert pair.run(read_meter, None) == [{"vcl": 1.0, "loss": 0.5}] * 2


@pytest.mark.parametrize("bad_rank", [0, 1])
def test_a_loss_that_is_not_finite_ends_every_worker_with_the_same_words(pair, bad_rank):
    assert pair.run(read_meter, bad_rank) == ["every loss must be finite, but loss = nan at step 2 of epoch 3"] * 2


def outcome(exchange, make, *ranks: int) -> object:
    """What comes of an exchange in which the workers `ranks` raise."""

    def attempt():
        if distributed.rank() in ranks:
            raise make(f"worker {distributed.rank()}")
        return distributed.rank()

    try:
        return exchange(attempt)
    except MclError as error:
        return repr(error)


def test_what_one_worker_cannot_do_none_can(pair):
    def outcomes(*arguments):
        return pair.run(outcome, *arguments)

    assert outcomes(distributed.run_on_all_ranks, DataError) == [0, 1]
    assert outcomes(distributed.run_on_all_ranks, DataError, 1) == ["DataError('worker 1')"] * 2
    assert outcomes(distributed.run_on_all_ranks, StoreError, 0, 1) == ["StoreError('worker 0')"] * 2
    assert outcomes(distributed.run_on_rank_zero, DataError, 1) == [0, 0]
    assert outcomes(distributed.run_on_rank_zero, DataError, 0) == ["DataError('worker 0')"] * 2


def digits(*overrides: str) -> RunSpec:
    """Two epochs of three steps."""
    small = ["epochs=2", "batch.size=400", "per_class=40"]
    return replace(recipes.digits(), parse(RunSpec, [*small, *(overrides or ["batch_statistics=synchronised"])]))


def train(root: Path, *overrides: str, num_epochs: int = 2) -> list[object]:
    """Begin or go on with a run of two epochs, whichever workers began it; the metrics of each epoch, or the error."""
    return train_some_epochs(root, digits(*overrides), ANYWHERE, num_epochs)


def recorded(root: Path) -> tuple[str, int, int]:
    (row,) = read_runs(root).to_pylist()
    return row["state"], row["attempt"], row["epochs_done"]


@pytest.mark.slow
@pytest.mark.parametrize("started_by", [1, 2])
def test_a_run_that_one_number_of_workers_began_another_finishes(pair, tmp_path, started_by):
    def of_two(*arguments):
        first, second = pair.run(partial(train, **arguments[0]), *arguments[1:])
        assert first == second
        return first

    def of_one(*arguments):
        return train(*arguments[1:], **arguments[0])

    begin, finish = (of_one, of_two) if started_by == 1 else (of_two, of_one)
    ((_, first),) = begin({"num_epochs": 1}, tmp_path / "both")
    assert recorded(tmp_path / "both") == ("interrupted", 1, 1)
    (again, last), whole = finish({}, tmp_path / "both"), begin({}, tmp_path / "whole")
    assert recorded(tmp_path / "both") == ("finished", 2, 2)
    assert again == (1, first) == whole[0]
    loss = ("cohort", "train", "loss")
    assert last[1].keys() == whole[1][1].keys()
    assert last[1][loss] == pytest.approx(whole[1][1][loss], rel=0.05)


@pytest.mark.slow
def test_the_workers_go_on_from_the_same_checkpoint_where_the_newest_is_damaged(pair, tmp_path):
    first, _ = pair.run(train, tmp_path)
    (folder,) = (tmp_path / "runs").iterdir()
    with RunWriter.amend(folder) as writer:
        writer.finish("interrupted")
    max((folder / "checkpoints").iterdir()).write_bytes(b"")
    assert pair.run(train, tmp_path) == [first, first]
    for file in (folder / "checkpoints").iterdir():
        file.write_bytes(b"")
    with RunWriter.amend(folder) as writer:
        writer.finish("interrupted")
    (kind, outcomes), second = pair.run(train, tmp_path)
    assert (kind, "are damaged" in outcomes) == ("CheckpointError", True)
    assert second == [kind, outcomes]


def test_a_run_that_fails_fails_on_every_worker(pair, tmp_path):
    first, second = pair.run(train, tmp_path, "lr=1e30")
    assert first == second
    assert first[0] == "NonFiniteLossError"
    assert recorded(tmp_path) == ("failed", 1, 0)


def test_the_scores_on_record_are_those_of_the_checkpoint(pair, tmp_path):
    """Each worker scores with the first one's running statistics, not its own."""
    local = ("batch_statistics=local", "evaluation.batch_size=50")
    first, second = pair.run(train, tmp_path, *local)
    assert first == second
    (folder,) = (tmp_path / "runs").iterdir()
    spec = digits(*local)
    _, rows = score_test_split(spec, dataset_for(spec, ANYWHERE), ANYWHERE, folder / "checkpoints")
    assert len(rows) == 11
    assert figures(rows).items() <= first[-1][1].items()


def test_alone_nothing_is_exchanged():
    part = torch.ones(2, requires_grad=True)
    assert distributed.gather(part, SINGLE_SHARD) is part
    assert distributed.all_reduce_sum(part) is part
    assert distributed.all_reduce_mean_(part) is part
    cohort = place_cohort(a_spec(), noise(), CPU)
    assert data_parallel(cohort, CPU) is cohort
    assert not any("Sync" in type(module).__name__ for module in cohort.modules())


LEAVES_A_GROUP = """
import sys
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from mcl_ray import distributed


def threads_of_gloo():
    return sum("gloo" in name.read_text() for name in Path("/proc/self/task").glob("*/comm"))


def train_one_step_and_count():
    model = DistributedDataParallel(torch.nn.Linear(2, 1))
    model(torch.ones(1, 2)).sum().backward()
    return threads_of_gloo()


with distributed.group(int(sys.argv[1]), 2, torch.device("cpu")):
    within = train_one_step_and_count()
print(within, threads_of_gloo())
"""


@pytest.mark.slow
def test_the_threads_of_a_group_end_with_it(tmp_path):
    """One that still lets go of a tensor while the interpreter ends would abort the process."""
    (tmp_path / "leaves.py").write_text(LEAVES_A_GROUP)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    options = {"cwd": tmp_path, "env": os.environ | meeting, "stdout": subprocess.PIPE, "text": True}
    commands = [[sys.executable, "leaves.py", str(rank)] for rank in range(2)]
    workers = [ForkedProcess(command, MODULES, **options) for command in commands]
    said = [worker.communicate(timeout=HANGS_AFTER_S)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0]
    assert said == ["3 0\n", "3 0\n"], "threads of gloo within the group, and after it"
