"""CohortTrainer with workers on a real Ray: events reach the driver, and the process is left as it was."""

import json
import sys
from pathlib import Path

import pytest

from mcl_ray import Run
from mcl_ray.results.store import read_runs
from tests.support import forked, ray_worker_server
from tests.support.commands import HANGS_AFTER_S, surroundings
from tests.support.once import once

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
WALL_CLOCK = ("epoch_time_s", "images_per_s")

# Trains on a Ray of the process's own, then in a thread on one that the trainer starts. Prints one line, at the end.
SCRIPT = """
import json, logging, os, signal, sys, threading
import trainables
import ray
from mcl_ray import CohortTrainer, RunCallback

class Events(RunCallback):
    def __init__(self, fail=False):
        self.events, self.pids, self.must_succeed = [], set(), fail

    def add(self, *event):
        self.events.append(event)
        self.pids.add(os.getpid())

    def on_run_start(self, start): self.add("start", start.attempt, str(start.folder))
    def on_step(self, step): self.add("step", step.epoch, step.step, step.steps)
    def on_run_end(self, end): self.add("end", end.state, type(end.error).__name__)
    def on_status(self, message): self.add("status", message)
    def on_epoch_end(self, epoch):
        self.add("epoch", epoch.epoch, epoch.checkpoint.is_file())
        if self.must_succeed:
            raise ValueError("of the callback")

def state():
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    return handlers, {log.name: log.level for log in loggers if isinstance(log, logging.Logger) and log in known}

def fit(callback, epochs=2):
    options = {"results": sys.argv[1], "workers": 2, "no_dashboard": True, "callbacks": [callback]}
    return CohortTrainer("digits", epochs=epochs, **options).fit()

def start_ray():  # again if it takes longer than Ray allows, as it may beside other tests
    options = {"address": "local", "include_dashboard": False, "log_to_driver": False, "num_cpus": 2}
    for is_last in (False, False, True):
        try:
            return ray.init(**options, object_store_memory=200_000_000)
        except Exception as error:
            if is_last or "timed out during startup" not in str(error):
                raise
            ray.shutdown()

answers = {}
start_ray()
known = {log for log in [logging.root, *logging.root.manager.loggerDict.values()] if isinstance(log, logging.Logger)}
before = state()
events = Events()
answers["run"] = str(fit(events).folder)
answers["events"] = events.events
answers["pids"] = [pid == os.getpid() for pid in events.pids]
answers["still connected"] = ray.is_initialized()
failing = Events(fail=True)
try:
    fit(failing, epochs=200)
except ValueError as error:
    answers["error"] = str(error)
answers["failing"] = failing.events
answers["unchanged"] = state() == before
ray.shutdown()

signal.signal(signal.SIGTERM, signal.SIG_DFL)
before = state()
thread = threading.Thread(target=lambda: answers.update(again=str(fit(Events()).folder)))
thread.start()
thread.join()
answers["disconnected"] = not ray.is_initialized()
answers["unchanged after all"] = state() == before
print(json.dumps(answers))
"""


def run_script(results):
    """Return what the script printed, and check that nothing else was."""
    script = results / "script.py"
    script.write_text(SCRIPT)
    finished = forked.run(
        [sys.executable, str(script), str(results)],
        forked.ON_RAY,
        cwd=ROOT,
        env=surroundings() | ray_worker_server.variables(),
        timeout=2 * HANGS_AFTER_S,
    )
    assert finished.returncode == 0, finished.stderr
    (line,) = finished.stdout.splitlines()
    ours = [line for line in finished.stderr.splitlines() if "mcl_ray" in line or "trainables" in line]
    assert ours == []
    return json.loads(line)


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    return once(tmp_path_factory, "trainer_on_ray", run_script)


@pytest.fixture
def results(outcome):
    return outcome[0]


@pytest.fixture
def done(outcome):
    return outcome[1]


def test_every_event_reaches_the_driver_in_order(done):
    folder = done["run"]
    status, start, *epochs, end = done["events"]
    assert status == ["status", "starting Ray (about 10 s)"]
    assert start[:1] == ["status"]
    start, *epochs = epochs
    assert start == ["start", 1, folder]
    steps = epochs[0][3]
    assert epochs == [
        ["step", 1, steps, steps],
        ["epoch", 1, True],
        ["step", 2, steps, steps],
        ["epoch", 2, True],
    ]
    assert end == ["end", "finished", "NoneType"]
    assert done["pids"] == [True]


def test_a_callback_that_must_succeed_ends_the_run_of_the_workers(done, results):
    assert done["error"] == "of the callback"
    assert done["failing"][-1] == ["end", "failed", "ValueError"]
    (row,) = [row for row in read_runs(results).to_pylist() if row["epochs_planned"] == 200]
    assert (row["state"], row["error_type"]) == ("failed", "ValueError")
    assert 1 <= row["epochs_done"] < 200


def test_a_ray_of_the_process_is_used_and_one_of_our_own_is_shut_down(done):
    assert done["still connected"]
    assert done["disconnected"]


def test_signal_handlers_and_log_levels_are_left_as_they_were(done):
    assert done["unchanged"]
    assert done["unchanged after all"]


def test_a_thread_trains_the_same_run_again(done):
    def figures(folder):
        rows = Run(Path(folder)).history.to_pylist()
        names = ("epoch", "member", "split", "metric", "value")
        return [tuple(row[name] for name in names) for row in rows if row["metric"] not in WALL_CLOCK]

    assert figures(done["again"]) == figures(done["run"])
    assert done["again"] != done["run"]
