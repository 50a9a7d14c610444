"""CohortTrainer in this process: the numbers of the command, events in order, results instead of output."""

import logging
import threading

import pytest
import torch

from mcl_ray import CohortTrainer, RunCallback
from mcl_ray.config import recipes
from mcl_ray.config.overrides import replace
from mcl_ray.errors import NonFiniteLossError, SpecError, UserError
from mcl_ray.results.store import read_runs
from mcl_ray.training.checkpoint import CheckpointFolder
from tests.support.commands import run_command
from tests.support.pictures import write_folder

WALL_CLOCK = ("epoch_time_s", "images_per_s")
SMALL = ("epochs=2", "validation_fraction=0.5")


@pytest.fixture(autouse=True)
def threads_of_torch():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def trainer(results, *overrides, **keywords):
    return CohortTrainer("digits", overrides=[*SMALL, *overrides], results=results, threads=1, **keywords)


def figures(run):
    """Every figure that does not depend on the machine."""
    rows = [row for row in run.history.to_pylist() if row["metric"] not in WALL_CLOCK]
    return [tuple(row[name] for name in ("epoch", "member", "split", "metric", "value")) for row in rows]


def weights(run):
    checkpoint, _ = CheckpointFolder(run.folder / "checkpoints").latest()
    return {name: tensor.numpy().tobytes() for name, tensor in checkpoint.cohort.items()}


class Events(RunCallback):
    """Keeps the names of events, and what tells one from another."""

    def __init__(self, fail_in=None):
        self.events, self._fail_in = [], fail_in

    def add(self, name, *details):
        self.events.append((name, *details))
        if name == self._fail_in:
            raise ValueError("of the callback")

    def on_run_start(self, start):
        self.add("start", start.run_id, start.attempt, start.dataset.counts["train"])

    def on_step(self, step):
        self.add("step", step.epoch, step.step, step.steps)

    def on_epoch_end(self, epoch):
        self.add("epoch", epoch.epoch, epoch.checkpoint.is_file())

    def on_run_end(self, end):
        self.add("end", end.state, type(end.error).__name__)

    def on_status(self, message):
        self.add("status", message)


class Required(Events):
    must_succeed = True


class Interrupt(RunCallback):
    """Ends the run as Ctrl-C does, after its first epoch."""

    def on_epoch_end(self, epoch):
        raise KeyboardInterrupt


@pytest.mark.slow
def test_a_run_is_that_of_the_command_to_the_bit(tmp_path):
    seen = run_command(tmp_path, "train", "digits", *SMALL, "alpha=0.3", "--threads", "1")
    assert seen.code == 0, seen.stderr
    (row,) = read_runs(tmp_path / "results").to_pylist()
    run = trainer(tmp_path / "python", alpha=0.3).fit()
    command = type(run)(tmp_path / "results" / "runs" / row["run_id"])
    assert run.run_id == command.run_id
    assert run.spec == command.spec
    assert figures(run) == figures(command)
    assert weights(run) == weights(command)


def test_events_come_in_order_and_nothing_is_printed(tmp_path, capfd):
    events = Events()
    run = trainer(tmp_path, callbacks=[events]).fit()
    steps = events.events[1][3]
    assert events.events == [
        ("start", run.run_id, 1, 719),
        ("step", 1, steps, steps),
        ("epoch", 1, True),
        ("step", 2, steps, steps),
        ("epoch", 2, True),
        ("end", "finished", "NoneType"),
    ]
    assert run.state == "finished"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("event", ["start", "step", "epoch", "end"])
def test_a_callback_that_raises_is_logged_and_the_run_finishes(tmp_path, caplog, event):
    failing, other = Events(fail_in=event), Events()
    run = trainer(tmp_path, callbacks=[failing, other]).fit()
    assert run.state == "finished"
    assert other.events == failing.events != []
    assert len(caplog.records) == sum(name == event for name, *_ in failing.events)
    for record in caplog.records:
        assert record.message.startswith("callback Events failed in on_")
        assert record.exc_info[0] is ValueError


@pytest.mark.parametrize(("event", "epochs"), [("start", 0), ("step", 0), ("epoch", 1)])
def test_a_callback_that_must_succeed_ends_the_run(tmp_path, event, epochs):
    failing, other = Required(fail_in=event), Events()
    with pytest.raises(ValueError, match="of the callback"):
        trainer(tmp_path, callbacks=[other, failing]).fit()
    assert other.events[-1] == ("end", "failed", "ValueError")
    (row,) = read_runs(tmp_path).to_pylist()
    assert (row["state"], row["error_type"], row["epochs_done"]) == ("failed", "ValueError", epochs)


def test_a_run_that_fails_raises_its_error_after_the_last_event(tmp_path):
    events = Events()
    with pytest.raises(NonFiniteLossError):
        trainer(tmp_path, "lr=1e30", callbacks=[events]).fit()
    assert events.events[-1] == ("end", "failed", "NonFiniteLossError")


def test_an_interrupted_run_is_resumed_to_the_bit_and_a_finished_one_is_returned(tmp_path):
    whole = trainer(tmp_path / "whole").fit()
    events = Events()
    with pytest.raises(KeyboardInterrupt):
        trainer(tmp_path / "parts", callbacks=[events, Interrupt()]).fit()
    assert events.events[-1] == ("end", "interrupted", "KeyboardInterrupt")
    again = Events()
    run = trainer(tmp_path / "parts", callbacks=[again], resume=True).fit()
    assert figures(run) == figures(whole)
    assert weights(run) == weights(whole)
    assert [event[:3] for event in again.events if event[0] != "step"] == [
        ("start", run.run_id, 2),
        ("epoch", 1, True),
        ("epoch", 2, True),
        ("end", "finished", "NoneType"),
    ]
    finished = Events()
    assert trainer(tmp_path / "parts", callbacks=[finished], resume=True).fit().folder == run.folder
    assert finished.events == [("status", f"nothing left to do: {run.folder} is finished")]


def test_two_threads_train_what_one_trains(tmp_path):
    """A thread may train, and one run after the other in a process is the same run; loggers stay as they were."""
    levels = {name: logging.getLogger(name).level for name in ("", "mcl_ray", "torch")}
    first, results = trainer(tmp_path / "a").fit(), []
    thread = threading.Thread(target=lambda: results.append(trainer(tmp_path / "b").fit()))
    thread.start()
    thread.join()
    (second,) = results
    assert figures(second) == figures(first)
    assert weights(second) == weights(first)
    assert {name: logging.getLogger(name).level for name in levels} == levels


def test_names_specs_and_files_are_the_same_run(tmp_path):
    spec = replace(recipes.digits(), {"schedule.epochs": 3})
    file = tmp_path / "mine.yaml"
    file.write_text(recipes.to_yaml(spec))
    named = CohortTrainer("digits", overrides={"schedule.epochs": 3})
    for other in (
        CohortTrainer(spec),
        CohortTrainer(file),
        CohortTrainer(str(file)),
        CohortTrainer("digits", epochs=3),
    ):
        assert [estimate.spec for estimate in other.estimate()] == [estimate.spec for estimate in named.estimate()]
    (estimate,) = named.estimate()
    assert estimate.spec.schedule.epochs == 3
    assert estimate.estimate.steps == 3 * estimate.estimate.steps_per_epoch


@pytest.mark.parametrize(
    ("keywords", "error", "rule"),
    [
        ({"alhpa": 1}, SpecError, "unknown field 'alhpa'; did you mean 'alpha'"),
        ({"alpha": -1}, SpecError, "losses.alpha must be greater than or equal to 0, but got -1"),
        ({"epochs": "three"}, SpecError, 'epochs must be a number, but got "three"'),
        ({"overrides": "epochs=1"}, SpecError, "a mapping or a list of field=value texts, but got the text 'epochs=1'"),
        ({"callbacks": print}, UserError, "must be a list of objects that derive from RunCallback, but got <built-in"),
        ({"callbacks": [print]}, UserError, "that derive from RunCallback, but got .<built-in function print>"),
        ({"overrides": {"losses.alpha": 1}, "alpha": 2}, SpecError, "losses.alpha was given twice"),
        ({"cpus_per_worker": 2}, UserError, "`--cpus-per-worker` requires `--workers` or `--address`"),
        ({"workers": "2..1"}, SpecError, "`workers` must be a number from 1"),
        ({"threads": 1, "workers": 2}, UserError, "`--threads` must not be given with workers on Ray"),
        ({"device": "tpu"}, UserError, "`device` must be auto, cpu, cuda"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, keywords, error, rule):
    with pytest.raises(error, match=rule):
        CohortTrainer("digits", results=tmp_path / "results", **keywords)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_pipeline_returns_its_last_run_with_the_runs_before(tmp_path):
    write_folder(tmp_path / "pictures")
    tiny = ["networks=resnet8", "image_size=16", "batch.size=6", "queue.keys=12", "schedule.kind=cosine"]
    tiny += ["milestones=[]", "epochs=1", "lincls.epochs=1", "lincls.schedule.kind=cosine", "lincls.milestones=[]"]
    events = Events()
    options = {"data": tmp_path / "pictures", "results": tmp_path / "results", "readers": 0, "threads": 1}
    run = CohortTrainer("moco+lincls", overrides=tiny, callbacks=[events], **options).fit()
    assert (run.spec.method, run.pretraining.spec.method, run.pretraining.pretraining) == ("linear", "moco", None)
    assert run.spec.pretraining == run.pretraining.spec
    assert [event[1] for event in events.events if event[0] == "start"] == [run.pretraining.run_id, run.run_id]
    frozen = {"image_size": 16, "batch.size": 6, "schedule.epochs": 1}
    again = CohortTrainer("lincls", overrides=frozen, source=run.pretraining, **options)
    assert again.estimate()[0].spec.linear.backbone == run.spec.linear.backbone
