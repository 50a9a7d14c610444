"""Secrets of the service and where they must not be, after a job with a real Ray, driver and PostgreSQL."""

import contextlib
import sys
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from api.database import Database, event, job
from mcl_ray.client import Client
from tests.support.postgres import postgres
from tests.support.service import HANGS_AFTER_S, KilledPostgres, ServiceProcess, wait_for, wait_until_ready

PASSWORD = "canary-of-the-database"
EPOCHS = 20
"""Epochs of a run whose driver lives until its command line has been seen."""


def command_lines_with(job_id):
    """The command lines of all processes, once the driver of a job is among them."""
    found = b""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found += (folder / "cmdline").read_bytes() + b"\n"
    return found if job_id.encode() in found else b""


@pytest.mark.slow
def test_secrets_are_in_no_log_event_report_page_or_command_line(local_ray, tmp_path):
    wait_until_ready(local_ray)
    token = local_ray.token_file.read_text()
    with postgres() as plain:
        url = sa.make_url(plain).set(password=PASSWORD).render_as_string(hide_password=False)
        driver = f"{sys.executable} -m mcl_ray.job"
        with ServiceProcess(tmp_path, url, local_ray, driver=driver, environment={"MCL_DATABASE_URL": url}) as service:
            service.start()
            service.wait_until_ready()
            secrets = [PASSWORD, token.strip(), service.key, service.key.split("_", 2)[2]]
            places = {}
            with Client(f"http://127.0.0.1:{service.port}", key=service.key) as client:
                handle = client.submit("digits", kind="train", overrides={"epochs": EPOCHS})
                places["command lines"] = wait_for(lambda: command_lines_with(handle.id))
                done = handle.wait(timeout_s=HANGS_AFTER_S)
                assert done.job.state == "succeeded", done.job.reason
                headers = {"Authorization": f"Bearer {token.strip()}"}
                places["Ray's jobs"] = httpx.get(f"{local_ray.url}/api/jobs/", headers=headers, timeout=60).content
                places["report"], places["log"] = done.report(), done.logs(0)[0].encode()
            for path in (
                "/",
                "/metrics",
                "/api/v1/openapi.json",
                f"/api/v1/jobs/{handle.id}",
                "/api/v1/jobs",
                "/readyz",
            ):
                places[path] = service.http.get(service.http.base_url.join(path)).content
            database = Database(url)
            places["rows"] = repr([database.read(sa.select(table)) for table in (job, event)]).encode()
            database.close()
            for file in (file for file in service.root.rglob("*") if file.is_file()):
                places[str(file)] = file.read_bytes()
            crashed = KilledPostgres(url)
            places["unavailable"] = service.http.get("/jobs").content
            assert b"503" in places["unavailable"]
            service.stop()
            crashed.start()
            places["service's log"] = (tmp_path / "service.log").read_bytes()
            assert b"database_unavailable" in places["service's log"]
    assert len(places) > 15
    found = [(place, secret[:6]) for place, text in places.items() for secret in secrets if secret.encode() in text]
    assert found == []
