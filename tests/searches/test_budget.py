"""A sweep's wall time: what counts, and what happens when it is spent."""

import re
import signal
import time

import pytest

from mcl_ray.callbacks import SweepCallback
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.config.overrides import replace
from mcl_ray.errors import SpecError
from mcl_ray.results.store import SweepWriter, read_runs, read_sweeps
from mcl_ray.results.sweep_writer import TOUCH_INTERVAL_S
from searches import conclude
from searches.sweep_runner import SweepRunner
from tests.support.known_trials import sweep
from tests.support.running_command import ALONE, WAITING, RunningCommand, descendants, send

LIMIT_S = 0.01
NOTICED_WITHIN_S = 900.0


class Messages(SweepCallback):
    def __init__(self):
        self.seen = []

    def on_status(self, message):
        self.seen.append(message)


@pytest.fixture
def messages():
    return Messages()


@pytest.fixture
def runner(tmp_path, messages):
    return SweepRunner(execution=ExecutionOptions(results=tmp_path), callbacks=[messages])


def spent(results, state):
    """The id of a sweep of ten trials whose time ran out before any of them began."""
    asked = sweep(time_limit_s=LIMIT_S)
    writer = SweepWriter.create(
        results, asked.name, asked, objective=asked.objective, mode="max", trials_planned=asked.trials
    )
    time.sleep(2 * LIMIT_S)
    writer.finish(state)
    return writer.sweep_id


@pytest.mark.parametrize("more", [{}, {"trials": 12}])
def test_no_trial_continues_without_time_and_the_error_names_the_command_that_gives_more(runner, tmp_path, more):
    name = spent(tmp_path, "finished")
    before = read_sweeps(tmp_path).to_pylist()
    with pytest.raises(SpecError, match=rf"{name} has time_limit_s=0\.01 and took \d s") as error:
        runner.resume(name, lambda of: replace(of, more))
    assert f"--resume {name} time_limit_s=" in str(error.value)
    assert read_sweeps(tmp_path).to_pylist() == before


def test_a_sweep_that_died_when_its_time_was_spent_is_concluded_uncharged(runner, messages, tmp_path, monkeypatch):
    charged = []

    def slowly(sweep, ranked, dataset, environment, writer):
        charged.append(writer.wall_time_s)
        time.sleep(0.1)
        writer.finish("finished")
        return ranked

    monkeypatch.setattr(conclude, "conclude_search", slowly)
    name = spent(tmp_path, "interrupted")
    runner.resume(name)
    (row,) = read_sweeps(tmp_path).to_pylist()
    assert (row["state"], [row["wall_time_s"]]) == ("finished", charged)
    assert "its 0.01 s are spent: no trial continues" in messages.seen


def wall_time_s(running):
    (row,) = read_sweeps(running.folder).to_pylist()
    return row["wall_time_s"]


@pytest.mark.slow
def test_time_counts_while_nothing_happens_and_no_more_of_it_than_was_given(shared_ray, tmp_path):
    limit_s = 12.0 * TOUCH_INTERVAL_S
    small = (*WAITING, "cohort.size=1", "space.cohort.size=null", "scheduler.kind=none", *ALONE)
    words = ("digits", "trials=1", "epochs=10000", *small, f"time_limit_s={limit_s}")
    running = RunningCommand(tmp_path, *words, ray=shared_ray)
    try:
        running.until(".*trials at once")
        while not any(row["epochs_done"] for row in read_runs(running.folder).to_pylist()):
            assert running.process.poll() is None, running.end()
            time.sleep(0.1)
        trials = descendants(shared_ray.pid, "ray::ImplicitFunc")
        send(trials, signal.SIGSTOP)
        assert trials
        before, began = wall_time_s(running), time.monotonic()
        while (
            now := wall_time_s(running)
        ) == before or now < limit_s - 3 * TOUCH_INTERVAL_S:  # at rest, it takes no core
            assert time.monotonic() - began < NOTICED_WITHIN_S, "of trials that say nothing for long"
            time.sleep(0.5)
        send(trials, signal.SIGCONT)
        code, output = running.end()
        assert code == 0, output
        assert re.search(r"best: ", output)
    finally:
        running.close()
    (row,) = read_sweeps(tmp_path).to_pylist()
    assert row["state"] == "finished"
    assert row["wall_time_s"] >= limit_s
    assert {run["state"] for run in read_runs(tmp_path).to_pylist()} == {"interrupted"}
