"""Sweeps that are interrupted: by each signal, once and again, by the end of Ray, or by a rename of their folder."""

import os
import re
import signal
import time

import pytest

from mcl_ray.results.store import read_runs, read_sweeps, recorded_state
from tests.support.running_command import ALONE, TIMEOUT_S, WAITING, descendants, named, send_again_and_again

LONG = ("trials=2", "epochs=400", "scheduler.kind=none", "space.cohort.size=null", *WAITING, *ALONE)

AGENTS_STAY = {"RAY_gcs_rpc_server_reconnect_timeout_s": str(2 * int(TIMEOUT_S))}
"""Ray's variable by which its processes look for their GCS for longer than a test takes, and not for a minute."""


def until_it_trains(running):
    """Return once a trial has an epoch on record."""
    running.until(".*trials at once")
    while not any(run["epochs_done"] for run in read_runs(running.results).to_pylist()):
        assert running.process.poll() is None, running.end()
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "is_to_all"),
    [
        (signal.SIGTERM, 143, True),
        (signal.SIGHUP, 129, False),
        (signal.SIGINT, 130, False),
        (signal.SIGUSR1, 138, False),
    ],
)
def test_every_signal_ends_a_sweep_in_order_however_often_it_comes(start_command, shared_ray, number, code, is_to_all):
    """To all processes of its group, as `timeout` sends it, the sweep that has a Ray of its own."""
    running = start_command("digits", *LONG, **({} if is_to_all else {"ray": shared_ray}))
    until_it_trains(running)
    below = [pid for pid in descendants(running.process.pid, "") if pid != running.process.pid]
    send_again_and_again(running.process, number, os.killpg if is_to_all else os.kill, pause_s=0.1)
    found, output = running.end()
    assert (found, output.count(f"--resume {running.folder.name}")) == (code, 1), output
    assert "Traceback" not in output
    assert "SIGTERM" not in output, "no handler of Ray's own had it"
    assert read_sweeps(running.results)["state"].to_pylist() == ["interrupted"]
    runs = list((running.folder / "runs").iterdir())
    assert {recorded_state(run) for run in runs} <= {"interrupted", "running"}, "none was stopped early"
    assert not [pid for pid in below if descendants(pid, "")], "nothing of its Ray is left"


@pytest.mark.slow
def test_a_sweep_whose_folder_is_renamed_ends_with_an_error_and_makes_no_new_one(start_command, shared_ray, tmp_path):
    running = start_command("digits", *LONG, ray=shared_ray)
    until_it_trains(running)
    (tmp_path / "sweeps").rename(tmp_path / "moved")
    code, output = running.end()
    assert code == 2, output
    assert re.search("error: .* was renamed or removed", output)
    assert "Traceback" not in output
    assert not (tmp_path / "sweeps").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "workers"), [("raylet", ()), ("gcs_server", ()), ("gcs_server", ("--workers", "2"))])
def test_a_sweep_whose_ray_dies_ends_with_one_line_and_the_hint_and_without_orphans(start_command, name, workers):
    running = start_command("digits", *LONG, *workers)
    until_it_trains(running)
    below = descendants(running.process.pid, "")
    (victim,) = named(below, name)
    os.kill(victim, signal.SIGKILL)
    code, output = running.end()
    assert code == 1, output
    *_, hint, command, error = output.splitlines()
    assert (hint, f"--resume {running.folder.name}" in command) == ("interrupted; to resume:", True), output
    assert error.startswith("error: the local Ray must run until the end, but its")
    assert output.count("\n") == 6, output
    assert not [pid for pid in below if descendants(pid, "")]
    assert read_sweeps(running.results)["state"].to_pylist() == ["interrupted"]


@pytest.mark.slow
def test_a_sweep_whose_gcs_dies_while_ray_starts_ends_with_one_line(start_command):
    """Ray's own code waits for it for a minute, in C++, and then ends the process with lines of its own."""
    running = start_command("digits", *LONG, variables=AGENTS_STAY)
    until_its_ray_starts(running)
    below = descendants(running.process.pid, "")
    (victim,) = named(below, "gcs_server")
    os.kill(victim, signal.SIGKILL)
    running.process.send_signal(signal.SIGCONT)
    code, output = running.end()
    assert (code, "Traceback" in output, "WARNING" in output) == (1, False, False), output
    assert output.splitlines()[-1].startswith("error: the local Ray must run until the end, but its GCS has ended")
    until_none_is_left(below)


def until_its_ray_starts(running):
    """Return once both agents of its Ray run, and the driver has been stopped right after it started the raylet."""
    driver = running.process.pid
    while not descendants(driver, "raylet/raylet"):
        assert running.process.poll() is None, running.end()
    os.kill(driver, signal.SIGSTOP)
    while not (descendants(driver, "ray::DashboardAgent") and descendants(driver, "ray::RuntimeEnvAgent")):
        time.sleep(0.1)


def until_none_is_left(below):
    """Return once processes have ended."""
    began = time.monotonic()
    while left := [pid for pid in below if descendants(pid, "")]:
        assert time.monotonic() - began < TIMEOUT_S, f"{left} look for their GCS"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("until", [until_its_ray_starts, until_it_trains])
def test_nothing_of_its_ray_outlives_a_driver_that_is_killed(start_command, until):
    running = start_command("digits", *LONG, variables=AGENTS_STAY)
    until(running)
    below = descendants(running.process.pid, "")
    running.process.kill()
    running.end()
    until_none_is_left(below)


@pytest.mark.slow
def test_nothing_of_its_ray_outlives_a_driver_that_is_interrupted_while_it_starts(start_command):
    running = start_command("digits", *LONG, variables=AGENTS_STAY)
    until_its_ray_starts(running)
    below = descendants(running.process.pid, "")
    for number in (signal.SIGTERM, signal.SIGCONT):
        running.process.send_signal(number)
    code, output = running.end()
    assert (code, "Traceback" in output) == (143, False), output
    until_none_is_left(below)
