"""Whole sweeps through the front door: a real Ray, real trials, real signals."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcl_ray import recipes
from mcl_ray.results.store import read_epochs, read_runs, read_sweeps

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("epochs=3", "scheduler.kind=none")


class Door:
    """`python -m mcl_ray.sweep` as a process whose lines are followed."""

    def __init__(self, results, *arguments):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mcl_ray.sweep", *arguments, "--results", str(results)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        self.results, self.lines = results, []

    def until(self, pattern):
        for line in self.process.stdout:
            self.lines.append(line)
            found = re.match(pattern, line)
            if found:
                return found
        raise AssertionError(f"{pattern!r} never came:\n{''.join(self.lines)}")

    def end(self):
        self.lines += list(self.process.stdout)
        self.process.stdout.close()
        return self.process.wait(timeout=300), "".join(self.lines)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    @property
    def folder(self):
        (folder,) = (self.results / "sweeps").iterdir()
        return folder


@pytest.fixture
def open_door(tmp_path):
    doors = []

    def open_one(*arguments):
        doors.append(Door(tmp_path, *arguments))
        return doors[-1]

    yield open_one
    for door in doors:
        door.close()


def trial_processes(ancestor):
    """Ray's workers that train a trial of this door now."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    parents = {int(pid): int(parent) for pid, parent, _ in rows}

    def is_ours(pid):
        return pid == ancestor or (pid in parents and is_ours(parents[pid]))

    return [int(pid) for pid, _, arguments in rows if "ImplicitFunc.train" in arguments and is_ours(int(pid))]


def test_from_images_to_a_ranking_a_best_spec_and_plots(open_door):
    door = open_door("digits", "trials=4", "epochs=5", "grace_epochs=2", "reduction_factor=2")
    door.until("trial 1/4")
    assert read_epochs(door.folder).num_rows > 0, "readable while the sweep goes on"
    code, output = door.end()
    assert code == 0, output
    runs = read_runs(door.folder).to_pylist()
    assert len(runs) == 4
    assert {run["state"] for run in runs} <= {"finished", "stopped"}
    (sweep,) = read_sweeps(door.folder).to_pylist()
    assert sweep["state"] == "finished"

    epochs = read_epochs(door.folder).to_pylist()
    assert {row["run_id"] for row in epochs if row["split"] == "test"} == {sweep["best_run_id"]}
    last = {
        run["run_id"]: max(
            (
                row
                for row in epochs
                if row["run_id"] == run["run_id"]
                and (row["split"], row["metric"], row["member"]) == ("validation", "top1", "mean")
            ),
            key=lambda row: row["epoch"],
        )["value"]
        for run in runs
    }
    assert last[sweep["best_run_id"]] == max(last.values())

    best = recipes.load(str(door.folder / "best.yaml"))
    assert best.evaluation.test == "at_end"
    (best_run,) = (run for run in runs if run["run_id"] == sweep["best_run_id"])
    searched = json.loads(best_run["searched"])
    assert best.losses.alpha == searched["losses.alpha"]
    assert best.cohort.size == searched["cohort.size"]
    for file in re.findall(r"report: +(\S+)", output):
        assert (ROOT / file).stat().st_size > 1000
    assert "report.html" in output


@pytest.mark.slow
def test_a_failing_trial_is_recorded_and_the_sweep_goes_on(open_door):
    space = "space={lr: {kind: choice, values: [0.05, 1.0e+30]}}"
    door = open_door("digits", "trials=6", "sampler.kind=random", space, *SMALL)
    code, output = door.end()
    assert code == 0, output
    runs = read_runs(door.folder).to_pylist()
    by_rate = {
        rate: {run["state"] for run in runs if json.loads(run["searched"])["optimizer.lr"] == rate}
        for rate in (0.05, 1e30)
    }
    assert by_rate == {0.05: {"finished"}, 1e30: {"failed"}}
    assert {run["error_type"] for run in runs if run["state"] == "failed"} == {"NonFiniteLossError"}
    assert re.search(
        r"failed: NonFiniteLossError: every loss must be finite, but \w+ = \S+ at step \d+ of epoch 1", output
    )


@pytest.mark.slow
def test_a_killed_trial_is_recorded_and_the_sweep_goes_on(open_door):
    door = open_door("digits", "trials=3", *SMALL)
    door.until("trial 1/3")
    while not (victims := trial_processes(door.process.pid)):
        assert door.process.poll() is None, door.end()
        time.sleep(0.1)
    os.kill(victims[0], signal.SIGKILL)
    code, output = door.end()
    assert code == 0, output
    states = sorted((run["state"], run["error_type"]) for run in read_runs(door.folder).to_pylist())
    assert states == [("failed", "WorkerDiedError"), ("finished", None), ("finished", None)]


@pytest.mark.slow
def test_ctrl_c_stops_cleanly_and_the_sweep_goes_on_where_it_was(open_door):
    door = open_door("digits", "trials=5", *SMALL)
    door.until("trial 2/5")
    os.kill(door.process.pid, signal.SIGINT)
    code, output = door.end()
    assert code == 130, output
    assert "Traceback" not in output
    (sweep,) = read_sweeps(door.folder).to_pylist()
    assert sweep["state"] == "interrupted"
    assert f"--resume {sweep['sweep_id']}" in output
    before = {run["run_id"]: run["attempt"] for run in read_runs(door.folder).to_pylist() if run["state"] == "finished"}
    assert len(before) >= 2

    code, output = open_door("--resume", sweep["sweep_id"]).end()
    assert code == 0, output
    runs = read_runs(door.folder).to_pylist()
    assert {run["state"] for run in runs} == {"finished"}
    assert len({run["trial_id"] for run in runs}) == len(runs) == 5
    (sweep,) = read_sweeps(door.folder).to_pylist()
    after = {run["run_id"]: run["attempt"] for run in runs if run["run_id"] != sweep["best_run_id"]}
    assert all(after[run_id] == attempt for run_id, attempt in before.items() if run_id in after)

    code, output = open_door("--resume", sweep["sweep_id"]).end()
    assert code == 0
    assert "nothing left to do" in output
