import time
from datetime import UTC, datetime

import pytest
import torch

from mcl_ray.callbacks import RunCallback
from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import parse, replace
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.source import dataset_for
from mcl_ray.errors import NonFiniteLossError, OutOfMemoryError
from mcl_ray.results.dataset_info import read_dataset_info
from mcl_ray.results.stop_decision import decide_stop
from mcl_ray.results.store import RunWriter, read_epochs, read_runs
from mcl_ray.training.checkpoint import CheckpointFolder
from mcl_ray.training.recorded_run import (
    iter_recorded_run,
    out_of_memory_is_typed,
    score_test_split,
    train_recorded_run,
)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    yield Environment(threads=1)
    torch.set_num_threads(before)


def small(*overrides):
    return replace(recipes.digits(), parse(RunSpec, ["epochs=2", "validation_fraction=0.5", *overrides]))


class OnEpochEnd(RunCallback):
    """Calls a function after each epoch; what it raises ends the run."""

    must_succeed = True

    def __init__(self, function):
        self.on_epoch_end = function


def train(spec, environment, root, *callbacks):
    writer = RunWriter.create(root, spec)
    train_recorded_run(spec, dataset_for(spec, environment), environment, writer, callbacks)
    return writer


def recorded(root):
    (row,) = read_runs(root).to_pylist()
    return row["state"], row["error_type"], row["epochs_done"]


def test_every_epoch_is_on_disk_before_callbacks_receive_it(tmp_path, one_thread):
    seen = []

    def look(end):
        seen.append((max(read_epochs(tmp_path)["epoch"].to_pylist()), end.epoch, end.checkpoint.is_file()))

    train(small(), one_thread, tmp_path, OnEpochEnd(look))
    assert seen == [(1, 1, True), (2, 2, True)]
    assert recorded(tmp_path) == ("finished", None, 2)


def test_the_images_of_a_run_are_recorded(tmp_path, one_thread):
    images, dataset = read_dataset_info(train(small(), one_thread, tmp_path).folder), dataset_for(small(), one_thread)
    assert (images.class_names, images.image_shape) == (tuple("0123456789"), (1, 8, 8))
    assert (images.mean, images.std) == (dataset.mean, dataset.std)
    assert images.counts == {"train": 719, "validation": 718, "test": 360}


@pytest.mark.parametrize(
    ("error", "state"), [(KeyboardInterrupt, "interrupted"), (ValueError, "failed"), (torch.OutOfMemoryError, "failed")]
)
def test_an_error_of_a_callback_that_must_succeed_ends_the_run(tmp_path, one_thread, error, state):
    def fail(_):
        raise error("elsewhere")

    name = "OutOfMemoryError" if error is torch.OutOfMemoryError else error.__name__
    with pytest.raises((error, OutOfMemoryError)):
        train(small(), one_thread, tmp_path, OnEpochEnd(fail))
    assert recorded(tmp_path) == (state, name, 1)


@pytest.mark.parametrize(
    ("num_epochs", "decided", "state"),
    [(1, None, "interrupted"), (1, 1, "stopped"), (2, 1, "finished"), (2, None, "finished")],
)
def test_a_run_is_recorded_before_each_epoch_is_yielded_and_stopped_only_if_that_was_decided(
    tmp_path, one_thread, num_epochs, decided, state
):
    writer = RunWriter.create(tmp_path, small())
    run = iter_recorded_run(small(), dataset_for(small(), one_thread), one_thread, writer)
    for epoch in range(1, num_epochs + 1):
        end = next(run)
        assert (end.epoch, recorded(tmp_path)[2]) == (epoch, epoch)
        assert end.checkpoint.is_file()
    if decided is not None:
        decide_stop(writer.folder, decided)
    run.close()
    assert recorded(tmp_path) == (state, None, num_epochs)


def figures_and_weights(root):
    rows = [row for row in read_epochs(root).to_pylist() if row["metric"] not in ("epoch_time_s", "images_per_s")]
    found = [CheckpointFolder(folder / "checkpoints").latest()[0] for folder in sorted((root / "runs").iterdir())]
    return [tuple(row[key] for key in ("epoch", "member", "split", "metric", "value")) for row in rows], found


@pytest.mark.slow
def test_runs_trained_in_turn_equal_those_trained_alone_to_the_bit(tmp_path, one_thread):
    specs = [small("seed=1"), small("seed=2", "cohort.size=3")]
    for spec in specs:
        train(spec, one_thread, tmp_path / "alone" / str(spec.seed))
    writers = [RunWriter.create(tmp_path / "in turn" / str(spec.seed), spec) for spec in specs]
    dataset = dataset_for(specs[0], one_thread)
    runs = [iter_recorded_run(spec, dataset, one_thread, w) for spec, w in zip(specs, writers, strict=True)]
    for _ in range(2):
        for run in runs:
            next(run)
    for run in runs:
        assert list(run) == []
    for spec in specs:
        (rows, [first]), (expected, [second]) = (
            figures_and_weights(tmp_path / how / str(spec.seed)) for how in ("in turn", "alone")
        )
        assert rows == expected
        assert first.cohort.keys() == second.cohort.keys()
        assert all(torch.equal(first.cohort[name], second.cohort[name]) for name in first.cohort)


def test_a_loss_that_is_not_finite_is_recorded(tmp_path, one_thread):
    with pytest.raises(NonFiniteLossError, match=r"at step \d+ of epoch 1"):
        train(small("lr=1e30"), one_thread, tmp_path)
    assert recorded(tmp_path) == ("failed", "NonFiniteLossError", 0)


@pytest.mark.slow
def test_when_the_test_images_are_read(tmp_path, one_thread):
    for when, epochs in (("every_epoch", {1, 2}), ("at_end", {2}), ("never", set())):
        train(small(f"test={when}"), one_thread, tmp_path / when)
        rows = read_epochs(tmp_path / when).to_pylist()
        assert {row["epoch"] for row in rows if row["split"] == "test"} == epochs
        assert {row["epoch"] for row in rows if row["split"] == "validation"} == {1, 2}


def test_the_score_of_a_checkpoint_is_the_score_at_its_epoch(tmp_path, one_thread):
    spec = small("test=at_end")
    writer = train(spec, one_thread, tmp_path)
    epoch, scores = score_test_split(spec, dataset_for(spec, one_thread), one_thread, writer.checkpoints)
    rows = [row for row in read_epochs(tmp_path).to_pylist() if row["split"] == "test"]
    assert epoch == 2
    assert {(s.metric, s.member): s.value for s in scores} == {(r["metric"], r["member"]): r["value"] for r in rows}


@pytest.mark.slow
def test_a_seed_gives_the_same_run_and_another_seed_another(tmp_path, one_thread):
    def losses(name, *overrides):
        train(small(*overrides), one_thread, tmp_path / name)
        rows = read_epochs(tmp_path / name).to_pylist()
        return [row["value"] for row in rows if row["metric"] not in ("epoch_time_s", "images_per_s")]

    first = losses("a")
    assert losses("b") == first
    assert losses("c", "seed=1") != first


@pytest.mark.parametrize("exhaust", [lambda: torch.empty(1 << 55, dtype=torch.uint8), lambda: bytearray(1 << 60)])
def test_memory_that_runs_out_has_one_name(exhaust):
    with pytest.raises(OutOfMemoryError, match="does not fit into memory"), out_of_memory_is_typed():
        exhaust()


def test_other_errors_keep_their_name():
    with pytest.raises(RuntimeError, match="shape"), out_of_memory_is_typed():
        raise RuntimeError("shape mismatch")


@pytest.mark.slow
def test_digits_learns(tmp_path, one_thread):
    train(recipes.digits(), one_thread, tmp_path)
    rows = read_epochs(tmp_path).to_pylist()
    (mean,) = (r["value"] for r in rows if (r["split"], r["metric"], r["member"]) == ("test", "top1", "mean"))
    assert mean > 97


def test_time_between_epochs_does_not_count_and_tensorboard_gets_every_epoch(tmp_path, one_thread):
    writer = RunWriter.create(tmp_path, small())
    run = iter_recorded_run(small(), dataset_for(small(), one_thread), one_thread, writer)
    next(run)
    time.sleep(1.5)
    list(run)
    (row,) = read_runs(tmp_path).to_pylist()
    trained = sum(r["value"] for r in read_epochs(tmp_path).to_pylist() if r["metric"] == "epoch_time_s")
    elapsed = (datetime.now(UTC) - row["started_at"]).total_seconds()
    assert trained <= row["wall_time_s"] <= elapsed - 1.5
    (file,) = writer.folder.glob("events-*")
    assert file.read_bytes().count(b"train/loss") == 2


def test_the_training_time_is_of_every_epoch_once_and_of_nothing_that_comes_before(tmp_path, one_thread):
    spec = small()
    dataset, writer = dataset_for(spec, one_thread), RunWriter.create(tmp_path, spec)
    time.sleep(1.0)  # what a new process has to load
    run = iter_recorded_run(spec, dataset, one_thread, writer)
    next(run)
    first = writer.cost("training_time_s")
    run.close()
    again = RunWriter.resume(writer.folder)
    list(iter_recorded_run(spec, dataset, one_thread, again))
    rows = [row for row in read_epochs(tmp_path).to_pylist() if row["metric"] == "epoch_time_s"]
    assert [row["epoch"] for row in rows] == [1, 2], "both attempts record the first"
    assert rows[0]["value"] == first
    assert again.cost("training_time_s") == first + rows[1]["value"]
    (row,) = read_runs(tmp_path).to_pylist()
    assert row["wall_time_s"] > 1.0 + again.cost("training_time_s")
