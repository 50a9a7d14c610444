"""deploy/local-cluster: nodes with a network and processes of their own, and a job that survives what breaks them."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.deploy_tools import DEPLOY, INSTALLED, ROOT
from tests.support.service import wait_for

FOLDER = DEPLOY / "local-cluster"
NEEDED_GB = 7
REFUSED = re.compile(
    "namespaces of its own require|not permitted|not supported|No such file or directory|PostgreSQL must be installed"
)
"""What a machine says that lacks the rights, a part of its kernel, or a program."""
# A node that answers, and one that asks; what it sees is printed. The server is a child of the node's first process.
TWO_NODES = """
import subprocess, sys, time
from pathlib import Path

from nodes import ClusterError, Node, isolate, make_network

try:
    isolate()
    addresses = make_network(Path(sys.argv[1]), ("server", "asker"))
except ClusterError as error:
    sys.exit(str(error))
server = Node("server", addresses["server"], f"sh -c '{sys.executable} -m http.server 80; true'")
asker = Node("asker", addresses["asker"], "sleep infinity")
ask = [sys.executable, "-c", "from urllib.request import urlopen; urlopen('http://server', timeout=1)"]

def wait_until(answers):
    while (subprocess.run(["nsenter", "--net=/run/netns/asker", *ask], capture_output=True).returncode == 0) != answers:
        time.sleep(0.1)
    print("answers" if answers else "is silent", flush=True)

server.start(), asker.start()
wait_until(True)
server.cut_off(asker)
wait_until(False)
server.join(asker)
wait_until(True)
server.kill()
wait_until(False)
assert (server.runs, asker.runs) == (False, True)
server.start()
wait_until(True)
print("stays", flush=True)
time.sleep(100_000)
"""


@contextmanager
def started(*words):
    """A command of this folder and what it prints; it is killed at the end, without a chance to clean up."""
    environment = os.environ | {"PYTHONPATH": f"{FOLDER}:{ROOT}", "PATH": f"{INSTALLED / 'bin'}:{os.environ['PATH']}"}
    with_tests = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []  # also where these are killed
    process = subprocess.Popen(
        [*with_tests, sys.executable, *words],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def available_gb():
    """The memory that processes can take without swapping."""
    (kilobytes,) = re.findall(r"^MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(kilobytes) / 1e6


def inside(folder):
    """The processes that work in a folder, or in one that was mounted from it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").samefile(folder):
                found.append(process.name)
        except OSError:
            continue
    return found


def test_nodes_are_cut_off_joined_killed_and_started_again_and_end_with_their_command(tmp_path):
    program, folder = tmp_path / "two_nodes.py", tmp_path / "shared"
    program.write_text(TWO_NODES)
    folder.mkdir()
    with started(program, folder) as process:
        seen = list[str]()
        while (line := process.stdout.readline()) not in ("stays\n", ""):
            seen.append(line.strip())
        if REFUSED.search("".join(seen)):
            pytest.skip(seen[-1])
        assert seen == ["answers", "is silent", "answers", "is silent", "answers"]
        assert inside(folder)
    wait_for(lambda: not inside(folder))


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "file").touch()
    done = subprocess.run([sys.executable, FOLDER / "run.py", tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: `folder` must be new or empty, but {tmp_path} is not\n"


@pytest.mark.slow
@pytest.mark.alone
def test_a_sweep_on_two_nodes_survives_a_node_a_process_of_the_api_and_the_network(tmp_path):
    if not Path("/proc/meminfo").is_file() or available_gb() < NEEDED_GB:
        pytest.skip(f"needs Linux with {NEEDED_GB} GB of free memory")
    with started(FOLDER / "run.py", tmp_path / "cluster") as process:
        said = process.communicate()[0]  # each thing that run.py waits for has a limit of its own
        if process.returncode == 2 and REFUSED.search(said):
            pytest.skip(said)
        assert process.returncode == 0, said
    assert re.search(r"kill the node mcl-worker-0\n.*kill mcl-api-0\n.*cut mcl-head-svc off from mcl-worker-1", said)
    assert re.search(r"job \w+: succeeded, attempt 1, 0 lost$", said, re.MULTILINE)
    if (INSTALLED / "bin" / "prometheus").is_file():
        health = dict(re.findall(r"Prometheus: (\S+) (\w+)", said))
        assert len(health) == 6
        assert set(health.values()) == {"up"}
    assert not inside(tmp_path / "cluster")
