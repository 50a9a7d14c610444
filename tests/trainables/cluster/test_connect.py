"""A local Ray that does not start within Ray's own limit is started again, a few times."""

import os
import subprocess
import sys
import time

import pytest
import ray
from ray._private import services

import trainables  # noqa: F401  # before ray
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.errors import TrainingError, UserError
from tests.support.commands import HANGS_AFTER_S, command, surroundings
from tests.support.running_command import descendants, named
from trainables.cluster import connect as connecting
from trainables.cluster.connect import START_ATTEMPTS, connect

LOCAL = ExecutionOptions(no_dashboard=True)
TIMED_OUT = "The current node timed out during startup. This could happen because the raylet failed to start."


@pytest.fixture
def fails(monkeypatch):
    """Let the first so many starts fail as Ray does; the others start nothing. Returns the calls."""
    calls = []

    def prepare(count, message=TIMED_OUT):
        def init(**options):
            calls.append(options["address"])
            if len(calls) <= count:
                raise Exception(message)
            return type("Context", (), {"dashboard_url": ""})

        monkeypatch.setattr(ray, "init", init)
        monkeypatch.setattr(connecting, "ensure_token", lambda: None)
        return calls

    return prepare


def test_a_start_that_times_out_is_tried_again(fails, caplog):
    calls = fails(START_ATTEMPTS - 1)
    with connect(LOCAL):
        assert calls == ["local"] * START_ATTEMPTS
    assert [record.args for record in caplog.records] == [(tried, START_ATTEMPTS) for tried in range(1, START_ATTEMPTS)]


@pytest.mark.slow
def test_nothing_is_left_of_a_start_that_timed_out(monkeypatch):
    """Of Ray's own start, which finds no node until its limit has passed."""
    attempts, get_node, started = [], services.get_node, time.monotonic

    def running():
        return {*named(descendants(os.getpid(), ""), "gcs_server")}

    others = running()  # of Rays that tests share

    def not_at_first(*arguments):
        if len(attempts) < 2:
            attempts.append(running() - others)
            raise RuntimeError("no node")
        return get_node(*arguments)

    monkeypatch.setattr(services, "get_node", not_at_first)
    # The limit has passed when the clock is asked for the second time, right after the failure.
    monkeypatch.setattr(time, "monotonic", lambda: started() + 100 * len(attempts))
    with connect(LOCAL):
        assert len(attempts) == 2, "two starts timed out"
        attempts.append(running() - others)
        assert all(len(pids) == 1 for pids in attempts), "each has ended before the next one begins"
    assert running() == others


def test_starts_that_all_time_out_are_one_error(fails):
    calls = fails(START_ATTEMPTS)
    with (
        pytest.raises(TrainingError, match="a local Ray must start within 30 s, but did not in 6 attempts"),
        connect(LOCAL),
    ):
        pass
    assert len(calls) == START_ATTEMPTS


def test_any_other_error_is_raised_at_once(fails):
    calls = fails(1, "no space left on device")
    with pytest.raises(Exception, match="no space left"), connect(LOCAL):
        pass
    assert len(calls) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variable", "rule"),
    [("HOME", "the token of a local Ray must be writable"), ("TMPDIR", "the path of Ray's sockets must be short")],
)
def test_a_place_that_ray_cannot_use_is_one_line(tmp_path, variable, rule):
    place = tmp_path / ("x" * 60) / ("y" * 40) if variable == "TMPDIR" else tmp_path / "file"
    place.mkdir(parents=True) if variable == "TMPDIR" else place.touch()
    done = subprocess.run(
        [*command("sweep", "digits"), "trials=1", "--no-dashboard", "--results", str(tmp_path / "results")],
        env=surroundings() | {variable: str(place)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
        check=False,
    )
    assert (done.returncode, done.stderr.startswith(f"error: {rule}"), done.stderr.count("\n")) == (2, True, 1), done
    assert not (tmp_path / "results" / "sweeps").exists()


def test_a_command_that_is_no_utf_8_is_refused_before_ray_is_started(fails, monkeypatch):
    """Ray records the command of a driver as UTF-8, after it has started its processes."""
    calls = fails(0)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "a\nb", "--data", os.fsdecode(b"/d\xe9j\xe0")])
    with pytest.raises(UserError, match=r"Ray requires a command in UTF-8, but got /d\\xe9j\\xe0; "), connect(LOCAL):
        pass
    assert calls == []
