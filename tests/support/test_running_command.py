"""A process or worker that hangs while a test waits for it is killed, and its last output is reported."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.support.running_command import TIMEOUT_S, RunningCommand, descendants
from tests.support.workers import some_workers

# Says a line, and leaves a child that holds on to its output.
HANGS = (
    "import subprocess, sys, time; print('so far', flush=True); subprocess.Popen(['sleep', '9000']); time.sleep(9000)"
)


class Hanging(RunningCommand):
    """A process that hangs, instead of a command."""

    def __init__(self, within_s):
        self.process = subprocess.Popen([sys.executable, "-c", HANGS], stdout=subprocess.PIPE, text=True)
        self.results, self.lines, self._within_s = None, [], TIMEOUT_S
        self.until("so far")
        self._within_s = within_s


@pytest.mark.parametrize(
    ("wait", "awaited"), [(lambda running: running.until("never"), "a line"), (RunningCommand.end, "the end")]
)
def test_a_door_that_hangs_is_killed_with_all_below_it_and_what_it_said_is_told(wait, awaited):
    running = Hanging(within_s=0.5)
    began = time.monotonic()
    with pytest.raises(AssertionError, match=rf"^{awaited}.* did not come within 0.5 s; last output:\nso far\n$"):
        wait(running)
    running.close()
    assert time.monotonic() - began < TIMEOUT_S
    assert running.process.returncode == -signal.SIGKILL


def test_what_has_died_is_no_descendant():
    child = subprocess.Popen(["sleep", "600"])
    assert child.pid in descendants(os.getpid(), "sleep")
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet asked of
    assert child.pid not in descendants(os.getpid(), "")
    child.wait()


def test_a_worker_that_hangs_or_dies_is_named(tmp_path):
    with some_workers(tmp_path, 1) as workers:
        workers.run(os.getpid)
        workers._within_s = 0.5
        with pytest.raises(AssertionError, match="worker 0 did not return from sleep within 0.5 s"):
            workers.run(time.sleep, 600)
    (tmp_path / "meeting").unlink()
    with some_workers(tmp_path, 1) as workers, pytest.raises(AssertionError, match="worker 0 died in _exit: .* 3"):
        workers.run(os._exit, 3)
