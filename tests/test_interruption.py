"""Signals of a command's child processes, which would inherit what the command blocks."""

import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from mcl_ray.interruption import WAITED_FOR
from tests.support.commands import HANGS_AFTER_S, command, surroundings
from tests.support.pictures import write_folder
from tests.support.run_progress import runs_of
from tests.support.running_command import descendants

WITH_READERS = (
    *("imagenet", "networks=resnet8", "image_size=16", "batch.size=6", "negatives=8", "epochs=1000"),
    *("--readers", "2", "--data", "pictures"),
)
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


@contextmanager
def started(cwd: Path, *words: str):
    """A command that runs in a folder, killed on leaving if it still does."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command(*words), cwd=cwd, env=surroundings(), stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def blocked_of(pid: int) -> list[signal.Signals]:
    """Return those of the command's signals that a process blocks."""
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigBlk"))
    return [number for number in WAITED_FOR if mask >> (number - 1) & 1]


@pytest.mark.slow
def test_readers_and_what_a_plugin_starts_end_by_every_signal(tmp_path):
    write_folder(tmp_path / "pictures")
    (tmp_path / "starts_a_child.py").write_text(STARTS_A_CHILD)
    with started(tmp_path, "train", *WITH_READERS, "plugins=starts_a_child") as process:
        while not any(run["epochs_done"] for run in runs_of(tmp_path / "results")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        assert (tmp_path / "ended_by").read_text() == str(-signal.SIGTERM)
        below = [pid for pid in descendants(process.pid, "") if pid != process.pid]
        assert len(below) == 4, "two readers, the server that they are forked from, and its tracker of resources"
        assert not [(pid, blocked) for pid in below if (blocked := blocked_of(pid))]
        while process.poll() is None:  # also while the interpreter ends, of which it would be the default handler
            process.send_signal(signal.SIGTERM)
            time.sleep(0.001)
        output, errors = process.communicate(timeout=HANGS_AFTER_S)
    assert (process.returncode, errors) == (128 + signal.SIGTERM, "")
    assert output.endswith("interrupted; the same command with --resume continues after the last finished epoch\n")
