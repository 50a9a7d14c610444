"""The end of a Ray: work ends with one line and the hint how to go on, its record does, too, and nothing is left."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from mcl_ray.results.store import read_runs, read_sweeps
from tests.support.ports import free_port
from tests.support.ray_nodes import RayNodes
from tests.support.run_progress import runs_of, wait_for_epochs
from tests.support.running_command import ALONE, WAITING, descendants, named
from trainables.cluster.watch import ClusterWatch, LocalRayWatch

RUN = ("digits", *WAITING, "cohort.size=1", "epochs=400", "test=never")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_run_whose_ray_dies_ends_with_one_line_and_the_hint_and_goes_on_from_there(start_command, tmp_path, name):
    running = start_command(*RUN, "--workers", "2", command="train")
    wait_for_epochs(tmp_path, 1)
    below = descendants(running.process.pid, "")
    (victim,) = named(below, name)
    os.kill(victim, signal.SIGKILL)
    code, output = running.end()
    assert code == 1, output
    *before, hint, error = output.splitlines()
    assert hint == "interrupted; the same command with --resume continues after the last finished epoch", output
    assert error.startswith("error: the local Ray must run until the end, but its"), output
    known = ("starting", "run ", "epoch ", "WARNING: a local Ray did not start within")
    assert all(line.startswith(known) for line in before), output
    assert not [pid for pid in below if descendants(pid, "")]
    (run,) = runs_of(tmp_path)
    assert (run["state"], run["error_type"]) == ("interrupted", "ClusterLostError")
    again = start_command(*RUN, "--resume", command="train")
    again.until(f"run {run['run_id']}, attempt {run['attempt'] + 1}")


@contextlib.contextmanager
def watching(address, raylet=None, **options):
    watch = ClusterWatch(address, raylet, **options)
    try:
        yield watch
    finally:
        watch.stop()


def lives(pid):
    """Whether a process has not ended; in less time than it takes to die."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_the_rest_of_a_local_ray_has_ended_when_its_end_returns():
    script = "for number in $(seq 100); do sleep 10000 & done; echo started; wait"
    one = subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert one.stdout.readline() == b"started\n"
    below = descendants(one.pid, "")
    watch = LocalRayWatch({"raylet": [one]})
    try:
        watch.end_rest()
        left = [pid for pid in below if lives(pid)]
    finally:
        watch.stop()
        one.communicate()
    assert (len(below), left) == (101, [])


def wait_until(holds):
    while not holds():
        time.sleep(0.01)


def wait_for_the_interruption():
    while True:
        time.sleep(0.01)


def test_a_head_that_comes_back_in_time_is_no_loss():
    port = free_port()
    with watching(f"127.0.0.1:{port}", rejoined_within_s=1e6) as watch:
        for _ in range(2):
            wait_until(lambda: watch._away_since)
            with socket.create_server(("127.0.0.1", port)):
                wait_until(lambda: not watch._away_since)
        assert watch.lost is None


def test_a_head_that_stays_away_interrupts_the_main_thread_and_leaves_its_signals_alone_afterwards():
    before = signal.getsignal(signal.SIGUSR2)
    with watching(f"127.0.0.1:{free_port()}", rejoined_within_s=0) as watch:
        with pytest.raises(KeyboardInterrupt):
            wait_for_the_interruption()
        assert "must answer, or come back within 0 s, but has not" in str(watch.error())
    assert signal.getsignal(signal.SIGUSR2) == before


def test_the_end_of_this_nodes_raylet_is_a_loss_at_once():
    with (
        socket.create_server(("127.0.0.1", 0)) as head,
        subprocess.Popen(["sleep", "1000"]) as raylet,
        watching(f"127.0.0.1:{head.getsockname()[1]}", raylet.pid) as watch,
    ):
        assert not watch.explains(KeyboardInterrupt())
        raylet.kill()
        with pytest.raises(KeyboardInterrupt):
            wait_for_the_interruption()
        assert "its raylet has ended" in str(watch.error())


@pytest.mark.slow
def test_a_sweep_whose_node_of_a_cluster_dies_ends_with_one_line_and_the_hint(start_command, tmp_path):
    with RayNodes(1, tmp_path) as nodes:
        words = ("trials=2", "epochs=4000", "scheduler.kind=none", "space.cohort.size=null", *WAITING, *ALONE)
        running = start_command("digits", *words, ray=nodes)
        running.until(".*trials at once")
        while not any(run["epochs_done"] for run in read_runs(tmp_path).to_pylist()):
            assert running.process.poll() is None, running.end()
            time.sleep(0.05)
        below = descendants(nodes.pid, "")
        (victim,) = named(below, "raylet")
        os.kill(victim, signal.SIGKILL)
        code, output = running.end()
    assert code == 1, output
    *_, hint, command, error = output.splitlines()
    assert (hint, f"--resume {running.folder.name}" in command) == ("interrupted; to resume:", True), output
    assert error.startswith("error: this node of the Ray cluster"), output
    assert "Traceback" not in output
    assert read_sweeps(tmp_path)["state"].to_pylist() == ["interrupted"]
