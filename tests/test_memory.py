"""Too little memory, at the start, in training and in readers: one line, a state on record, and exit code 1."""

import os
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import HANGS_AFTER_S, command, surroundings
from tests.support.pictures import write_folder
from tests.support.run_progress import runs_of
from tests.support.running_command import descendants
from tests.support.training_command import WITH_READERS, training

LARGE = ("digits", "networks=resnet20", "cohort.size=3", "epochs=1000", "test=every_epoch", "--threads", "1")


def status_of(pid: int) -> dict[str, str]:
    """Return the facts that the kernel gives of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [150, 250, 300, 350, 800])
def test_a_command_that_cannot_load_what_it_needs_is_one_line(tmp_path, megabytes):
    """With the smallest limit Python itself gets no memory, with the largest one the system maps no library of torch.

    Between them, libraries would abort the process while they load.
    """
    limited = [
        "/bin/sh",
        "-c",
        f'ulimit -v {megabytes << 10}; exec "$@"',
        "sh",
        *command("train", "digits", "epochs=1"),
    ]
    done = subprocess.run(
        limited, cwd=tmp_path, env=surroundings(), capture_output=True, text=True, timeout=HANGS_AFTER_S, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: the command does not fit into memory: ")
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.slow
def test_a_run_whose_process_gets_no_more_memory_is_recorded_as_failed(tmp_path):
    with training(tmp_path, *LARGE) as process:
        has_bytes = int(status_of(process.pid)["VmSize"].split()[0]) << 10
        resource.prlimit(process.pid, resource.RLIMIT_AS, (has_bytes // 2, has_bytes // 2))
        _, errors = process.communicate(timeout=HANGS_AFTER_S)
    assert process.returncode == 1, errors
    assert errors.startswith("error: the run does not fit into memory: ")
    assert errors.count("\n") == 1, errors
    (run,) = runs_of(tmp_path / "results")
    assert (run["state"], run["error_type"]) == ("failed", "OutOfMemoryError")


@pytest.mark.slow
def test_a_run_whose_reader_is_killed_ends_with_one_line_and_may_be_resumed(tmp_path):
    write_folder(tmp_path / "pictures")
    with training(tmp_path, *WITH_READERS) as process:
        below = [pid for pid in descendants(process.pid, "") if pid != process.pid]
        reader = next(pid for pid in below if int(status_of(pid)["PPid"]) in below)
        os.kill(reader, signal.SIGKILL)
        _, errors = process.communicate(timeout=HANGS_AFTER_S)
    assert process.returncode == 1, errors
    assert errors.startswith("error: the readers must run as long as the run, but one has ended")
    assert errors.count("\n") == 1, errors
    (run,) = runs_of(tmp_path / "results")
    assert (run["state"], run["error_type"]) == ("interrupted", "WorkerDiedError"), "to go on with"
