"""Garbage collection of commands: rare while they run, and none at their end, which is the interpreter's otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = """
import atexit, gc, sys, threading, time
from mcl_ray import garbage
from mcl_ray.cli import app

class Left:
    def __del__(self):
        print("destroyed", flush=True)

def command() -> None:
    print("rarely", gc.get_threshold()[0] == garbage.NEW_OBJECTS)
    threading.Thread(target=lambda: (time.sleep(0.2), print("a thread has ended"))).start()
    ENDS

left = Left()
left.itself = left
atexit.register(lambda: print("at exit"))
app.run_command(command)
"""
ENDS = {"pass": 0, "raise SystemExit(3)": 3, "raise SystemExit('said')": 1, "raise SystemExit(None)": 0}


@pytest.mark.parametrize("ends", ENDS)
def test_a_command_collects_rarely_and_destroys_nothing_at_its_end(ends):
    words = [sys.executable, "-c", COMMAND.replace("ENDS", ends)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (ENDS[ends], "said\n" * ("said" in ends))
    assert done.stdout.splitlines() == ["rarely True", "a thread has ended", "at exit"]


def test_a_profiler_prints_at_the_end_of_a_command(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(COMMAND.replace("ENDS", "raise SystemExit(3)"))
    done = subprocess.run([sys.executable, "-m", "cProfile", program], capture_output=True, text=True, check=False)
    assert "function calls" in done.stdout, done.stderr


def test_output_that_cannot_be_written_is_an_exit_code():
    program = "from mcl_ray.garbage import exit_process; print('said'); exit_process(0)"
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", program], stdout=full, env=buffered, check=False)
    assert done.returncode == 120
