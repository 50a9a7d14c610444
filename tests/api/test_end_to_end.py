"""A sweep by the client, with a real server, a real Ray, the real driver and Ray Tune; killed once, then extended."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from mcl_ray.client import Client
from tests.support.service import ServiceProcess

TINY = {"epochs": 2, "scheduler.kind": "none", "cohort.size": 2, "space.cohort.size": None}
TINY |= {"baseline": {}, "confirm.configurations": 0}


def driver_of(job):
    """The process of a job's driver, once it has begun a trial."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"mcl_ray.job" in words and job.encode() in words and b"python" in words[0]:
                return int(folder.name)
    return None


@pytest.mark.slow
def test_a_sweep_survives_its_driver_and_is_extended(local_ray, tmp_path):
    service = ServiceProcess(
        tmp_path, f"sqlite:///{tmp_path / 'jobs.db'}", local_ray, driver=f"{sys.executable} -m mcl_ray.job"
    )
    with service, Client(f"http://127.0.0.1:{service.port}", key=service.key) as client:
        service.start()
        time.sleep(5)
        handle = client.submit("digits", overrides=TINY, trials=3)
        ends = time.monotonic() + 400
        while "trial 0000: finished" not in handle.logs(0)[0]:
            assert time.monotonic() < ends, (handle.refresh(), handle.logs()[0])
            time.sleep(0.5)
        os.kill(driver_of(handle.id), signal.SIGKILL)
        done = handle.wait(timeout_s=500)
        assert done.job.state == "succeeded", (done.job.reason, handle.logs(0)[0])
        assert (done.job.attempt, done.job.lost) == (2, 1)
        ranked = handle.ranking()
        assert len(ranked) == 3
        assert all(row["score"] is not None for row in ranked)
        more = handle.extend(1).wait(timeout_s=500)
        assert more.job.state == "succeeded", (more.job.reason, more.logs(0)[0])
        assert len(more.ranking()) == 4
        assert b"<html" in more.report()
