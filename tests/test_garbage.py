"""Garbage collection of commands: rare while they run, none at their end, and as usual in a process that stays."""

import subprocess
import sys

COMMAND = """
import atexit, gc
from mcl_ray import garbage
from mcl_ray.cli import app

def collected() -> None:
    print(gc.get_threshold()[0] == garbage.NEW_OBJECTS, gc.get_freeze_count())
    if FAILS:
        raise SystemExit(3)

atexit.register(lambda: print(gc.get_threshold()[0] == garbage.NEW_OBJECTS, gc.get_freeze_count() > 10_000))
app.run_command(collected)
"""


def test_a_command_collects_rarely_and_leaves_nothing_to_search_at_its_end():
    for fails in (False, True):
        words = [sys.executable, "-c", COMMAND.replace("FAILS", str(fails))]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (3 * fails, "True 0\nFalse True\n"), done.stderr
