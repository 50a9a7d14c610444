"""A Ray cluster of several nodes on this machine, kept by a process of its own: nobody else's Ray is touched."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.support import ray_worker_server
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "the-token-of-this-cluster-of-the-tests"
STARTS = 10
"""Tries: a raylet ends if its agent takes more than 15 s to start, as it may beside other tests; Ray has no setting."""
TOO_SLOW = "timed out during startup"
FEWER_ACTORS = {"RAY_TRAIN_ENABLE_STATE_TRACKING": "0", "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"}
"""Ray's variables with which a group of workers has two processes less; a Ray that a command starts itself has them."""
NOTICES_DEATH_SOON = {"RAY_health_check_initial_delay_ms": "500", "RAY_health_check_period_ms": "500"}
"""Ray's variables with which a node that was killed counts as dead after 3 s instead of 15 to 20 s. A node that is only
slow still has 50 s: five checks in a row must fail, each of which waits for 10 s."""

ONE_THREAD = {"OMP_NUM_THREADS": "1"}

# Says the head's address and the nodes' process ids, and lives until its input ends: for each line, it adds a node and
# says its process id, or why there is none.
_KEEPS = """
import contextlib, os, sys
os.makedirs("/tmp/ray", exist_ok=True)
from ray.cluster_utils import Cluster
import psutil  # Ray ships it
from tests.support.own_ray import CHOSEN
node = CHOSEN | {"num_cpus": 1, "object_store_memory": 100_000_000, "dashboard_agent_listen_port": 0}
apart = [{"env_vars": {"XDG_CACHE_HOME": cache}} for cache in sys.argv[5:]] or [{}] * int(sys.argv[1])
dashboard = {"include_dashboard": sys.argv[4] == "dashboard", "dashboard_port": int(sys.argv[3])}
head = dashboard | {"num_cpus": int(sys.argv[2])}
cluster = Cluster(initialize_head=True, head_node_args=node | apart[0] | head)
nodes = [cluster.head_node] + [cluster.add_node(**node, **apart[i]) for i in range(1, int(sys.argv[1]))]
raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
print("nodes", cluster.address, *raylets, flush=True)
for line in sys.stdin:
    known = set(psutil.Process().children())
    try:
        added = cluster.add_node(**node)
    except Exception as error:  # what has started of it must not join later
        for child in set(psutil.Process().children()) - known:
            for process in (*child.children(recursive=True), child):
                with contextlib.suppress(psutil.Error):
                    process.kill()
        print("none", str(error).replace("\\n", " "), flush=True)
    else:
        print("node", added.all_processes["raylet"][0].process.pid, flush=True)
cluster.shutdown()
"""


class RayNodes:
    """So many nodes of one CPU core each; the first is the head, which may be without one.

    `apart`: each has caches of its own below `folder`, as if it was a machine. `dashboard`: the head has one, and
    with it the Jobs API.
    """

    def __init__(
        self, count: int, folder: Path, *, apart: bool = False, head_cpus: int = 1, dashboard: bool = False
    ) -> None:
        self._dashboard = "dashboard" if dashboard else "none"
        self._count, self._head_cpus, self.token_file = count, head_cpus, folder / "token"
        self.caches = [folder / f"node{number}" for number in range(count)] if apart else []
        self.token_file.write_text(TOKEN)

    @property
    def variables(self) -> dict[str, str]:
        """Variables of a process that joins: what it needs to be let in, and what makes groups cheaper."""
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_file)}
        return token | FEWER_ACTORS | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}

    def __enter__(self) -> Self:
        for _ in range(STARTS):
            port = free_port()
            self.url = f"http://127.0.0.1:{port}"
            self._keeper = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    _KEEPS,
                    *map(str, (self._count, self._head_cpus, port, self._dashboard, *self.caches)),
                ],
                env=os.environ | ray_worker_server.variables() | self.variables | NOTICES_DEATH_SOON | ONE_THREAD,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            word, *said = self._said("nodes")
            if word:
                self.address, *raylets = said
                self.raylets = [int(pid) for pid in raylets]
                return self
            self._end_keeper()
        raise AssertionError(f"the cluster did not start, tried {STARTS} times")

    @property
    def pid(self) -> int:
        """Of the process that all others are below."""
        return self._keeper.pid

    def kill_one_with(self, title: str) -> None:
        """Kill a node that is not the head and has such a process, with everything on it, as a power cut would."""
        raylet = next(pid for pid in self.raylets[1:] if any(title in args for args in _children(pid).values()))
        self.raylets.remove(raylet)
        for pid in (raylet, *_children(raylet)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def add_one(self) -> None:
        """Add a node."""
        for _ in range(STARTS):
            self._keeper.stdin.write("\n")
            self._keeper.stdin.flush()
            word, *said = self._said("node", "none")
            if word == "node":
                self.raylets.append(int(*said))
                return
        raise AssertionError(f"the node did not start, tried {STARTS} times: {' '.join(said)}")

    @contextmanager
    def one_that_does_not_see(self, folder: Path) -> Iterator[None]:
        """One more node, to which `folder` is another one, and empty, as on a machine without the shared disk."""
        ray = str(Path(sys.executable).with_name("ray"))
        start = f"exec {ray} start --address {self.address} --num-cpus 1 --dashboard-agent-listen-port 0 --block"
        for _ in range(STARTS):
            node = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs none {folder} && {start}"],
                env=os.environ | self.variables | {"PYTHONUNBUFFERED": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            said: list[str] = []
            try:
                for line in node.stdout:
                    said.append(line)
                    if "Ray runtime started" in line:
                        yield
                        return
            finally:
                _end(node)
            if any("not permitted" in line or "Permission denied" in line for line in said):
                pytest.skip("needs a mount namespace of its own, which this machine does not let it have")
            if not any(TOO_SLOW in line for line in said):
                break
        raise AssertionError("".join(said))

    def _said(self, *words: str) -> list[str]:
        """The words of the next line that begins with one of these; none if the keeper has ended."""
        lines = map(str.split, self._keeper.stdout)
        return next((line for line in lines if line and line[0] in words), [""])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_keeper()

    def _end_keeper(self) -> None:
        """With the whole cluster."""
        self._keeper.stdin.close()
        self._keeper.stdout.close()
        self._keeper.wait()


def _end(node: subprocess.Popen[str]) -> None:
    """With all its processes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(node.pid, signal.SIGTERM)
    node.stdout.read()
    node.stdout.close()
    node.wait()


def _children(parent: int) -> dict[int, str]:
    """Command lines of the processes that a raylet started; for `tests.support.ray_worker`, the worker's."""
    words = ["ps", "-o", "pid=,comm=,args=", "--ppid", str(parent)]
    listed = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    found = {}
    for pid, name, args in (line.split(None, 2) for line in listed.splitlines()):
        found[int(pid)] = args
        if name.isdigit():
            with contextlib.suppress(OSError):
                found[int(pid)] = Path(f"/proc/{name}/cmdline").read_text()
    return found
