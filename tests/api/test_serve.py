"""`python -m mcl_ray.serve` as a user has it: a Ray of its own, a first key, and nothing left behind."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx

from mcl_ray.client import Client, ServiceError
from tests.support.service import CHECKOUT, HANGS_AFTER_S, ServiceProcess, wait_for
from trainables.cluster.local_ray import LocalRay

IDLE_MIB = {"after the start": 72, "after submissions": 77}
"""The most memory that a process that waits for requests has for itself: with PostgreSQL 68 and 74, with SQLite 4 less.

The pages of libraries and other files that it maps are not counted: how many of them are present depends on the page
cache of the machine, and processes share them.
"""


@contextlib.contextmanager
def started(folder):
    """A service with an environment that has nothing but a path, and a secret that must not get any further."""
    environment = {"PATH": os.defpath, "HOME": str(folder), "PYTHONPATH": str(CHECKOUT)}
    environment |= {f"LONG_{number}": "x" * 100 for number in range(20)}  # Ray's agents overwrite such an environment
    out, err = folder / "out", folder / "err"
    with out.open("wb") as stdout, err.open("ab") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "mcl_ray.serve", "--port", "0", "--state", "state"],
            cwd=folder,
            env=environment | {"MCL_LABEL_SECRET": "canary-in-the-environment"},
            stdout=stdout,
            stderr=stderr,
        )
    try:
        url = wait_for(lambda: re.search(r"http://\S+(?=\n)", out.read_text()))[0]
        yield process, url, out.read_text()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def is_ready(url):
    return httpx.get(f"{url}/readyz", timeout=60).is_success


def end(process, number):
    """Signal a service, and return its exit code."""
    process.send_signal(number)
    return process.wait(HANGS_AFTER_S)


def follow(handle):
    """Read a job's events until its client is closed."""
    with contextlib.suppress(RuntimeError, ServiceError):
        list(handle.events())


def descendants(process):
    """The processes below one."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    found, new = set(), {process.pid}
    while new := {child for child, parent in parents.items() if parent in new}:
        found |= new
    return found


def nothing_is_left(ray, ports, below):
    assert ray.processes() == set()
    assert wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in below))
    assert not ray.folder.exists()
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, port
    return True


def test_the_life_of_a_service_with_a_ray_of_its_own(tmp_path, local_ray):
    """Beside another Ray: it is stopped in order with a live job and an open stream, killed, and stopped by Ctrl-C."""
    with started(tmp_path) as (process, url, shown):
        key = re.search(r"shown once: (mcl_\S+)", shown)[1]
        wait_for(lambda: httpx.get(f"{url}/healthz").is_success)
        with Client(url, key=key) as client:
            handle = client.submit("digits", kind="train", epochs=500)
            wait_for(lambda: is_ready(url))
            wait_for(lambda: "epoch 1:" in handle.logs(0)[0])
            ray = LocalRay(tmp_path / "state")
            for name in ("out", "err", "state/ray.log"):
                assert "canary" not in (tmp_path / name).read_text()
            for running in ray.processes():
                with contextlib.suppress(OSError):
                    assert b"canary" not in Path(f"/proc/{running}/environ").read_bytes()
            follower = threading.Thread(target=follow, args=(handle,), daemon=True)
            follower.start()
            assert wait_for(lambda: descendants(process) <= ray.processes())
            below, ports = descendants(process), [*ray.ports.values(), httpx.URL(url).port]
            assert below
            assert end(process, signal.SIGTERM) == 0
            assert nothing_is_left(ray, ports, below)
            assert (tmp_path / "state/results/jobs" / handle.id / "a1.outcome").exists()

    with started(tmp_path) as (process, url, shown):
        assert "shown once" not in shown
        with Client(url, key=key) as client:
            handle = client.job(handle.id)
            wait_for(lambda: re.search(r"attempt 2\n.*epoch \d+:", handle.logs(0)[0], re.DOTALL))
            assert (handle.refresh().attempt, handle.job.lost) == (2, 0)
            handle.cancel()
            assert handle.wait(HANGS_AFTER_S).job.state == "cancelled"
        ray = LocalRay(tmp_path / "state")
        process.kill()
        process.wait()
        assert ray.head in ray.processes()

    with started(tmp_path) as (process, url, _):
        wait_for(lambda: is_ready(url))
        assert LocalRay(tmp_path / "state").head == ray.head
        assert end(process, signal.SIGINT) == 130
        assert nothing_is_left(ray, ray.ports.values(), ())
        assert not (tmp_path / "state" / "ray.json").exists()
    assert local_ray.head in local_ray.processes()


def own_mib(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]) / 1024


def test_a_process_that_waits_is_small(tmp_path, local_ray, database_url):
    """With results in a folder it does not load the client of object stores either, whose pages others share."""
    with ServiceProcess(tmp_path, database_url, local_ray, is_forked=False) as service:
        service.start()
        service.wait_until_ready()
        assert service.http.get("/jobs").json()["jobs"] == []
        assert own_mib(service.process) <= IDLE_MIB["after the start"]
        ids = [service.submit("", f"k{number}") for number in range(50)]
        service.wait_for_driver(ids[0])
        assert len(service.http.get("/jobs").json()["jobs"]) == len(ids)
        assert own_mib(service.process) <= IDLE_MIB["after submissions"]
        assert "obstore" not in Path(f"/proc/{service.process.pid}/maps").read_text()
