"""Signals of a command's child processes, which would inherit what the command blocks."""

import signal
import time
from pathlib import Path

import pytest

from mcl_ray.interruption import WAITED_FOR
from tests.support.commands import HANGS_AFTER_S
from tests.support.pictures import write_folder
from tests.support.running_command import descendants
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
        while process.poll() is None:  # also while the interpreter ends, of which it would be the default handler
            process.send_signal(signal.SIGTERM)
            time.sleep(0.001)
        output, errors = process.communicate(timeout=HANGS_AFTER_S)
    assert (process.returncode, errors) == (128 + signal.SIGTERM, "")
    assert output.endswith("interrupted; the same command with --resume continues after the last finished epoch\n")
