"""`python -m mcl_ray.serve` as a user has it: a Ray of its own, a first key, and nothing left behind."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from trainables.cluster.local_ray import LocalRay


@contextlib.contextmanager
def started(folder):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MCL_"))}
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
        url = wait_for(lambda: re.search(r"http://\S+(?=\n)", out.read_text()), 120)[0]
        yield process, url, out.read_text()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def wait_for(condition, deadline_s):
    ends = time.monotonic() + deadline_s
    while True:
        try:
            if found := condition():
                return found
        except httpx.HTTPError:
            pass
        assert time.monotonic() < ends
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_life_of_a_service_with_a_ray_of_its_own(tmp_path, number):
    with started(tmp_path) as (process, url, shown):
        key = re.search(r"shown once: (mcl_\S+)", shown)[1]
        wait_for(lambda: httpx.get(f"{url}/healthz").is_success, 60)
        wait_for(lambda: httpx.get(f"{url}/readyz", timeout=60).is_success, 400)
        ray = LocalRay(tmp_path / "state")
        for name in ("out", "err", "state/ray.log"):
            assert "canary" not in (tmp_path / name).read_text()
        for running in ray.processes():
            with contextlib.suppress(OSError):
                assert b"canary" not in Path(f"/proc/{running}/environ").read_bytes()
        process.kill()
        process.wait()
        before = ray.processes()
        assert LocalRay(tmp_path / "state").head in before

    with started(tmp_path) as (process, url, shown):
        assert "shown once" not in shown
        wait_for(lambda: httpx.get(f"{url}/readyz", timeout=60).is_success, 60)
        assert LocalRay(tmp_path / "state").head == ray.head
        headers = {"Authorization": f"Bearer {key}"}
        assert httpx.get(f"{url}/api/v1/jobs", headers=headers).json()["jobs"] == []
        process.send_signal(number)
        assert process.wait(120) == {signal.SIGTERM: 0, signal.SIGINT: 130}[number]
        assert ray.processes() == set()
        assert not (tmp_path / "state" / "ray.json").exists()
