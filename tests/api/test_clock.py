"""A clock that jumps back while the service runs: an hour that is counted twice holds up no job."""

import time
from contextlib import contextmanager

import pytest

from tests.support.application import running, settings_for
from tests.support.commands import HANGS_AFTER_S
from tests.support.ray_stand_in import RayStandIn

HOUR_S = 3600.0


@pytest.fixture
def clock(monkeypatch):
    """Return the seconds by which the clock of this process is ahead, which the test changes."""
    read, ahead = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: read() + ahead[0])
    return ahead


def until(condition):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < HANGS_AFTER_S
        time.sleep(0.02)


@pytest.mark.slow
def test_a_clock_that_jumps_back_by_an_hour_holds_up_no_job(tmp_path, clock):
    clock[0] = HOUR_S
    options = {"allow_open_ray": True, "poll_s": 0.1, "lease_s": 0.5}
    with RayStandIn() as ray, contextmanager(running)(settings_for(tmp_path, address=ray.url, **options)) as app:
        headers = app.headers()
        job = app.submit(headers).json()["id"]
        until(lambda: ray.drivers)
        clock[0] = 0.0
        (driver,) = ray.drivers
        driver.status, driver.exit_code = "FAILED", 2
        ray.drivers.remove(driver)
        until(lambda: app.http.get(f"/api/v1/jobs/{job}", headers=headers).json()["state"] == "failed")
