"""The reaper of a local Ray: what was started under it ends with the process that has it, however that ends."""

import os
import select
import subprocess
import sys

import pytest

from tests.support.commands import HANGS_AFTER_S

RAYLET = """
import subprocess
worker = subprocess.Popen(["sleep", "10000"], process_group=0)
print(worker.pid, flush=True)
worker.wait()
"""
STARTER = f"""
import os, subprocess, sys
from trainables.cluster.reaper import Reaper
from trainables.cluster.signals import apart_from_ray

with Reaper() as reaper, apart_from_ray(reaper):
    command = [sys.executable, "-c", {RAYLET!r}]
    one = subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=lambda: None)  # as Ray starts its processes
    print(one.pid, int(one.stdout.readline()), flush=True)
    sys.stdin.readline()
    END
    print("still here", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "reaper.reap()"])
def test_what_was_started_under_it_ends_also_in_groups_of_its_own(end):
    command = [sys.executable, "-c", STARTER.replace("END", end)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
        pids = [int(pid) for pid in starter.stdout.readline().split()]
        assert os.getpgid(pids[0]) != os.getpgid(pids[1])
        assert os.getsid(pids[0]) == os.getsid(pids[1]) != os.getsid(starter.pid)
        processes = [os.pidfd_open(pid) for pid in pids]
        starter.stdin.write("\n")
        starter.stdin.flush()
        for process in processes:
            assert select.select([process], [], [], HANGS_AFTER_S)[0], f"one of {pids} runs on"
            os.close(process)
        said, _ = starter.communicate("\n")
    assert said == ("still here\n" if "reap()" in end else "")


def test_it_kills_nothing_when_the_context_is_left():
    command = [sys.executable, "-c", STARTER.replace("END", "reaper.__exit__(None, None, None)")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
        pids = [int(pid) for pid in starter.stdout.readline().split()]
        starter.communicate("\n\n")
    for pid in pids:
        os.kill(pid, 9)  # it is there
