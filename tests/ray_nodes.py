"""A Ray cluster of several nodes on this machine, kept by a process of its own: nobody else's Ray is touched."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parents[1]
TOKEN = "the-token-of-this-cluster-of-the-tests"

# Says the head's address and the nodes' process ids, and lives until its input ends.
_KEEPS = """
import os, socket, sys
os.makedirs("/tmp/ray", exist_ok=True)
from ray.cluster_utils import Cluster
node = {"num_cpus": 1, "object_store_memory": 100_000_000}
apart = [{"env_vars": {"XDG_CACHE_HOME": cache}} for cache in sys.argv[2:]] or [{}] * int(sys.argv[1])
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
head = {"include_dashboard": True, "dashboard_port": port}
cluster = Cluster(initialize_head=True, head_node_args=node | apart[0] | head)
nodes = [cluster.head_node] + [cluster.add_node(**node, **apart[i]) for i in range(1, int(sys.argv[1]))]
raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
print("nodes", cluster.address, *raylets, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


class RayNodes:
    """So many nodes of one CPU core each; the first is the head.

    `apart`: each has caches of its own below `folder`, as if it was a machine.
    """

    def __init__(self, count: int, folder: Path, *, apart: bool = False) -> None:
        self._count, self._token = count, folder / "token"
        self.caches = [folder / f"node{number}" for number in range(count)] if apart else []
        self._token.write_text(TOKEN)

    @property
    def variables(self) -> dict[str, str]:
        """What a process needs to be let in."""
        told = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self._token), "RAY_USAGE_STATS_ENABLED": "0"}
        return told | {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}

    def __enter__(self) -> Self:
        self._keeper = subprocess.Popen(
            [sys.executable, "-c", _KEEPS, str(self._count), *map(str, self.caches)],
            env=os.environ | self.variables | {"OMP_NUM_THREADS": "1"},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        said = next((line for line in self._keeper.stdout if line.startswith("nodes ")), None)
        assert said, "the cluster did not start"
        _, self.address, *raylets = said.split()
        self.raylets = [int(pid) for pid in raylets]
        return self

    def kill_one(self) -> None:
        """Kill a node that is not the head, with everything on it, as a power cut would."""
        raylet = self.raylets.pop()
        children = subprocess.run(["pgrep", "-P", str(raylet)], capture_output=True, text=True, check=False).stdout
        for pid in (raylet, *map(int, children.split())):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keeper.stdin.close()
        self._keeper.stdout.close()
        self._keeper.wait()
