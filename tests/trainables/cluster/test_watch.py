"""The end of a local Ray: a run with workers ends with one line, its record tells how to go on, and nothing is left."""

import os
import signal
from pathlib import Path

import pytest

from tests.support.run_progress import runs_of, wait_for_epochs
from tests.support.running_command import descendants

RUN = ("digits", "networks=resnet8", "cohort.size=1", "epochs=400", "test=never")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_run_whose_ray_dies_ends_with_one_line_and_the_hint_and_goes_on_from_there(start_command, tmp_path, name):
    running = start_command(*RUN, "--workers", "2", command="train")
    wait_for_epochs(tmp_path, 1)
    below = descendants(running.process.pid, "")
    (victim,) = (pid for pid in below if Path(f"/proc/{pid}/comm").read_text().strip() == name)
    os.kill(victim, signal.SIGKILL)
    code, output = running.end()
    assert code == 1, output
    *before, hint, error = output.splitlines()
    assert hint == "interrupted; the same command with --resume continues after the last finished epoch", output
    assert error.startswith("error: the local Ray must run until the end, but its"), output
    known = ("starting", "run ", "epoch ")
    assert all(line.startswith(known) for line in before), output
    assert not [pid for pid in below if descendants(pid, "")]
    (run,) = runs_of(tmp_path)
    assert (run["state"], run["error_type"]) == ("interrupted", "ClusterLostError")
    again = start_command(*RUN, "--resume", command="train")
    again.until(f"run {run['run_id']}, attempt {run['attempt'] + 1}")
