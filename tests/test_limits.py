"""Machines with narrow limits: few open files, and a name of their own that does not resolve."""

import subprocess

import pytest

from mcl_ray.results.store import read_runs
from tests.support.commands import HANGS_AFTER_S, command, surroundings
from tests.support.running_command import ALONE

SWEEP = ("sweep", "digits", "trials=1", "epochs=1", "space.cohort.size=null", "cohort.size=1", *ALONE, "--no-dashboard")
TRAIN = ("train", "digits", "epochs=1")


def run_below(tmp_path, shell, *words):
    """Return what a command does that a shell starts after `shell`."""
    return subprocess.run(
        ["/bin/sh", "-c", f'{shell}; exec "$@"', "sh", *command(*words), "--results", str(tmp_path)],
        cwd=tmp_path,
        env=surroundings(),
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("words", [TRAIN, SWEEP], ids=["train", "sweep"])
def test_256_open_files_are_enough(tmp_path, words):
    done = run_below(tmp_path, "ulimit -n 256", *words)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert read_runs(tmp_path)["state"].to_pylist() == ["finished"]


@pytest.mark.slow
def test_a_host_name_that_does_not_resolve_is_one_line(tmp_path):
    done = run_below(tmp_path, ":", "sweep", "digits", "trials=1", "--address", "no-such-host.invalid:6379")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith("error: ")
    assert "no-such-host.invalid:6379" in done.stderr
    assert not (tmp_path / "sweeps").exists()
