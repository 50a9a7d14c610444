"""Sweeps whose trials share their steps: a real Ray, real packs, whose processes are killed."""

import json
import signal
import time

import pytest

from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.data.source import dataset_for
from mcl_ray.results.store import read_epochs, read_runs
from mcl_ray.training.loop import iter_epochs
from tests.support.held_runs import held_in_the_middle
from tests.support.running_command import ALONE, TIMEOUT_S, descendants, send

ACTOR = "ray::PackActor"
"""Title of the process of a pack."""


def _losses(folder, run_id) -> list[float]:
    """Return the training loss of every epoch of a run."""
    rows = read_epochs(folder).to_pylist()
    return [row["value"] for row in rows if row["run_id"] == run_id and row["metric"] == "loss"]


@pytest.mark.slow
def test_trials_of_a_pack_are_stopped_finished_and_recorded_one_by_one(start_command, shared_ray, tmp_path):
    fields = ("trials=6", "epochs=3", "grace_epochs=1", "--pack", "3", *ALONE)
    code, output = (running := start_command("digits", *fields, ray=shared_ray)).end()
    assert code == 0, output
    assert "3 in one process" in output
    runs = read_runs(running.folder).to_pylist()
    assert {run["state"] for run in runs} == {"finished", "stopped"}
    assert len({run["trial_id"] for run in runs}) == 6
    (best,) = (run for run in runs if run["attempt"] == 2)  # the second attempt reads the test images
    for run in (best, next(run for run in runs if run["state"] == "stopped")):
        spec = recipes.load(str(running.folder / "runs" / run["run_id"] / "spec.yaml"))
        local = Environment(threads=1)
        alone = next(iter_epochs(spec, dataset_for(spec, local), local, tmp_path / run["run_id"]))
        (loss,) = (row.value for row in alone.rows if row.metric == "loss")
        assert _losses(running.folder, run["run_id"])[0] == pytest.approx(loss, rel=0.02), json.loads(run["searched"])


@pytest.mark.slow
def test_trials_of_a_pack_whose_process_is_killed_resume_from_their_last_epochs(start_command, shared_ray):
    fields = ("trials=4", "scheduler.kind=none", "epochs=8", "space.cohort.size=null", "--pack", "2", *ALONE)
    running = start_command("digits", *fields, ray=shared_ray)
    running.until(".*trials at once")
    with held_in_the_middle(running, running.folder, shared_ray.pid, ACTOR) as actors:
        inside = [run["run_id"] for run in read_runs(running.folder).to_pylist() if 2 <= run["epochs_done"] < 8]
        send(actors, signal.SIGKILL)
    code, output = running.end()
    assert code == 0, output
    runs = {run["run_id"]: run for run in read_runs(running.folder).to_pylist()}
    assert {run["state"] for run in runs.values()} == {"finished"}
    assert inside
    for victim in inside:
        assert runs[victim]["attempt"] >= 2
        assert len(_losses(running.folder, victim)) == 8, "no epoch is missing, and none is there twice"


@pytest.mark.slow
def test_a_sweep_with_packs_that_is_interrupted_resumes_each_trial(start_command, shared_ray):
    fields = ("trials=2", "scheduler.kind=none", "epochs=40", "space.cohort.size=null", *ALONE)
    running = start_command("digits", *fields, "--pack", "2", ray=shared_ray)
    running.until(".*trials at once")
    with held_in_the_middle(running, running.folder, shared_ray.pid, ACTOR):
        assert all(run["epochs_done"] for run in read_runs(running.folder).to_pylist())
        running.process.send_signal(signal.SIGINT)
    code, output = running.end()
    assert code == 130, output
    ended = time.monotonic()
    while descendants(shared_ray.pid, ACTOR):  # Ray ends a process some time after it was asked to
        assert time.monotonic() - ended < TIMEOUT_S, "the pack has not ended"
        time.sleep(0.1)
    runs = read_runs(running.folder).to_pylist()
    assert [run["state"] for run in runs] == ["interrupted"] * 2

    resumed = start_command("--resume", running.folder.name, ray=shared_ray)
    code, output = resumed.end()
    assert code == 0, output
    runs = read_runs(running.folder).to_pylist()
    assert {(run["state"], run["epochs_done"]) for run in runs} == {("finished", 40)}
    assert all(run["attempt"] >= 2 for run in runs)
    assert all(len(_losses(running.folder, run["run_id"])) == 40 for run in runs)
