"""Signals of a command's child processes, which would inherit what the command blocks."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from mcl_ray.interruption import WAITED_FOR
from mcl_ray.results.store import read_runs
from tests.support.commands import HANGS_AFTER_S, command, surroundings
from tests.support.forked import ON_RAY, TRAINING, ForkedProcess
from tests.support.pictures import write_folder
from tests.support.running_command import ALONE, descendants, send_again_and_again
from tests.support.training_command import WITH_READERS, training

STARTS_A_CHILD = """
import subprocess
from pathlib import Path
child = subprocess.Popen(["sleep", "1000"])
child.terminate()
try:
    Path("ended_by").write_text(str(child.wait(100)))
finally:
    child.kill()
"""


def blocked_of(pid: int) -> list[signal.Signals]:
    """Return those of the command's signals that a process blocks."""
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigBlk"))
    return [number for number in WAITED_FOR if mask >> (number - 1) & 1]


@pytest.mark.slow
def test_readers_and_what_a_plugin_starts_end_by_every_signal(tmp_path):
    write_folder(tmp_path / "pictures")
    (tmp_path / "starts_a_child.py").write_text(STARTS_A_CHILD)
    with training(tmp_path, *WITH_READERS, "plugins=starts_a_child") as process:
        assert (tmp_path / "ended_by").read_text() == str(-signal.SIGTERM)
        below = [pid for pid in descendants(process.pid, "") if pid != process.pid]
        assert len(below) == 4, "two readers, the server that they are forked from, and its tracker of resources"
        assert not [(pid, blocked) for pid in below if (blocked := blocked_of(pid))]
        # Also while the interpreter ends, of which it would be the default handler.
        send_again_and_again(process, signal.SIGTERM, pause_s=0.001)
        output, errors = process.communicate(timeout=HANGS_AFTER_S)
    assert (process.returncode, errors) == (128 + signal.SIGTERM, "")
    assert output.endswith("interrupted; the same command with --resume continues after the last finished epoch\n")


def state_of(pid: int) -> str:
    """Return the letter by which the kernel names the state of a process: T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train", "sweep"])
def test_ctrl_z_stops_a_command_and_fg_lets_it_go_on_to_its_end(tmp_path, request, name):
    words, variables = ["digits", "epochs=6", "--results", str(tmp_path)], {}
    if name == "sweep":
        shared_ray = request.getfixturevalue("shared_ray")
        words += ["trials=2", "scheduler.kind=none", *ALONE, "--address", shared_ray.address]
        variables = shared_ray.variables
    # A group of its own in this session, as a shell makes it: groups that no shell waits for ignore Ctrl-Z.
    with ForkedProcess(
        command(name, *words),
        TRAINING if name == "train" else ON_RAY,
        env=surroundings() | variables,
        process_group=0,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            while not any(run["epochs_done"] for run in known_runs(tmp_path)):
                assert process.poll() is None, process.communicate()
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGTSTP)
            while state_of(process.pid) != "T":
                assert process.poll() is None, "it ended before it could be stopped"
                time.sleep(0.01)
            os.killpg(process.pid, signal.SIGCONT)
            output, _ = process.communicate(timeout=HANGS_AFTER_S)
        finally:
            process.kill()
    assert process.returncode == 0, output
    assert {(run["state"], run["attempt"]) for run in known_runs(tmp_path)} <= {("finished", 1), ("finished", 2)}, (
        output
    )
    assert "Traceback" not in output


def known_runs(results: Path) -> list[dict[str, object]]:
    """Return the records of all runs below a folder of results, which may be still empty."""
    exists = (results / "runs").is_dir() or (results / "sweeps").is_dir()
    return read_runs(results).to_pylist() if exists else []
