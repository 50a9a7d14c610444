"""Machines of a cluster on this one: each has a network, processes and a folder /tmp/ray of its own.

All of it lies in namespaces that end with the command, however it ends. A machine is killed with everything on it, as
by a power cut, and can be cut off from another one: the packets between them are lost without an answer.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SHARED = Path("/mnt")
"""Where every node sees the folder of the cluster, as pods see a volume."""
NETWORK = "10.77.0"
BRIDGE = "cluster"
UNUSED_MAC = "02:00:00:00:00:01"
"""Hardware address that no node has."""
INSIDE = "MCL_INSIDE_OF_LOCAL_CLUSTER"
ISOLATED = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


class ClusterError(Exception):
    """The machine lacks what a cluster needs, or a part of the cluster has failed."""


def isolate() -> None:
    """Go on in namespaces of this command's own, and exit with its code there; they end with this process.

    Raises:
        ClusterError: the machine does not let it have any.
    """
    if INSIDE in os.environ:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # the first process has no default
        return
    words = ["setpriv", "--pdeathsig", "KILL", ISOLATED[0], "--net", *ISOLATED[1:]]
    try:
        call(*words, "ip", "link", "set", "lo", "up")
    except (ClusterError, OSError) as error:
        raise ClusterError(f"namespaces of its own require root, with Linux's own rights, but: {error}") from None
    process = subprocess.Popen([*words, sys.executable, *sys.argv], env=os.environ | {INSIDE: "1"})
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    while True:
        with contextlib.suppress(KeyboardInterrupt):  # the command there has got it, too
            sys.exit(process.wait())


def call(*words: object) -> str:
    """Run a program, and return what it wrote to standard output, or its words if it wrote nothing.

    Raises:
        ClusterError: it failed.
    """
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"{words[0]} must succeed, but: {(done.stderr or done.stdout).strip()}")
    return done.stdout or " ".join(map(str, words))


def make_network(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Make the network that nodes are joined to, show them `folder` as `SHARED`, and return each node's address."""
    addresses = {name: f"{NETWORK}.{number}" for number, name in enumerate(names, 1)}
    hosts = "".join(f"{address} {name}\n" for name, address in addresses.items())
    (folder / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
    Path("/tmp/ray").mkdir(exist_ok=True)  # noqa: S108  # each node has one of its own there
    folder.chmod(0o755)  # the account of PostgreSQL reads below it
    call("mount", "--bind", folder, SHARED)
    call("mount", "--bind", folder / "hosts", "/etc/hosts")
    call("mount", "-t", "tmpfs", "none", "/run")
    call("ip", "link", "set", "lo", "up")
    call("ip", "link", "add", BRIDGE, "type", "bridge")
    call("ip", "address", "add", f"{NETWORK}.254/24", "dev", BRIDGE)
    call("ip", "link", "set", BRIDGE, "up")
    for name, address in addresses.items():
        end = f"to-{address.rpartition('.')[2]}"
        call("ip", "netns", "add", name)
        call("ip", "link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", name)
        call("ip", "link", "set", end, "master", BRIDGE, "up")
        call("ip", "-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        call("ip", "-n", name, "link", "set", "lo", "up")
        call("ip", "-n", name, "link", "set", "eth0", "up")
    return addresses


@dataclass
class Node:
    """A machine with one command, which is started again when it has ended, as a pod of Kubernetes is."""

    name: str
    address: str
    command: str
    """For a shell; it replaces the shell."""
    variables: Mapping[str, str] = field(default_factory=dict)
    starts: int = 0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """File with what the command wrote, over all its starts."""
        return SHARED / "logs" / f"{self.name}.log"

    @property
    def runs(self) -> bool:
        """Return whether the command runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the command."""
        inside = f"mount -t tmpfs none /tmp/ray && exec {self.command}"
        enter = ["nsenter", f"--net=/run/netns/{self.name}", *ISOLATED, "sh", "-c", inside]
        self.log.parent.mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                enter, env=os.environ | self.variables, cwd=SHARED, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        self.starts += 1

    def kill(self) -> None:
        """End all processes of the node at once."""
        assert self._process is not None, "it is started first"
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def cut_off(self, other: Node) -> None:
        """Lose all packets between two nodes; their other connections stay."""
        for here, there in ((self, other), (other, self)):
            words = ("neighbour", "replace", there.address, "lladdr", UNUSED_MAC, "dev", "eth0", "nud", "permanent")
            call("ip", "-n", here.name, *words)

    def join(self, other: Node) -> None:
        """Undo `cut_off`."""
        for here, there in ((self, other), (other, self)):
            call("ip", "-n", here.name, "neighbour", "delete", there.address, "dev", "eth0")
