"""HTTP itself: the one shape of errors, limits on bodies, readiness, metrics, the schema, and a locked database."""

import concurrent.futures
import contextlib
import json
import socket
import sqlite3
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from api.app import create_app
from tests.support.application import is_problem, running, settings_for
from tests.support.service import HANGS_AFTER_S, wait_for


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nope", 404),
        ("/api/v1/jobs/../../etc/passwd", 404),
        ("/api/v1/jobs?page_size=0", 422),
        ("/api/v1/jobs?page_token=xx", 422),
        ("/api/v1/jobs?page_token=" + "0" * 32, 422),
        ("/api/v1/jobs?state=bogus", 422),
        ("/api/v1/jobs/{job}/logs?offset=-1", 422),
        ("/api/v1/jobs/{job}/report", 404),
    ],
)
def test_every_error_has_one_shape(shared, path, status):
    headers = shared.headers()
    job = shared.submit(headers).json()["id"]
    assert is_problem(shared.http.get(path.replace("{job}", job), headers=headers), status)


def test_a_method_that_there_is_not_is_a_problem_too(shared):
    assert is_problem(shared.http.put("/api/v1/jobs", headers=shared.headers()), 405)


def test_a_body_is_counted_while_it_arrives(shared):
    headers = shared.headers() | {"Content-Type": "application/json"}
    assert is_problem(shared.http.post("/api/v1/jobs", content=b"x" * 300_000, headers=headers), 413)
    chunks = (b"x" * 10_000 for _ in range(40))
    assert is_problem(shared.http.post("/api/v1/jobs", content=chunks, headers=headers), 413)
    assert is_problem(shared.http.post("/api/v1/jobs", content=b"{", headers=headers), 422)


def test_the_head_of_a_request_is_bounded(shared):
    def answer(length):
        url, found = shared.http.base_url, b""
        with socket.create_connection((url.host, url.port)) as connection, contextlib.suppress(ConnectionError):
            connection.settimeout(HANGS_AFTER_S)
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: %s\r\n\r\n" % (b"x" * length))
            found = connection.recv(4096)  # or a reset, where the rest was not read
        return found[:12]

    assert answer(1_000) == b"HTTP/1.1 200"
    assert answer(1_000_000) in (b"HTTP/1.1 400", b"")


def test_a_stalled_submitter_is_sent_away(tmp_path):
    for app in running(settings_for(tmp_path, no_reconciler=True, body_timeout_s=0.5)):
        key, url = app.key(), app.http.base_url
        with socket.create_connection((url.host, url.port)) as connection:
            head = f"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
            connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
            connection.settimeout(HANGS_AFTER_S)
            assert b"408" in connection.recv(4096)
        assert app.http.get("/healthz").status_code == 200


def test_readiness_names_what_is_missing(shared):
    answer = shared.http.get("/readyz")
    assert is_problem(answer, 503)
    assert answer.json()["detail"] == "not ready: ray"
    assert shared.http.get("/healthz").json() == {"status": "ok"}
    assert shared.http.get("/version").json()["version"]


def test_metrics(app):
    headers = app.headers()
    app.submit(headers)
    text = app.http.get("/metrics", headers=headers).text
    assert 'mcl_service_jobs{state="queued"} 1.0' in text
    assert 'path="/api/v1/jobs",status="202"' in text
    assert "mcl_service_oldest_job_seconds" in text
    assert "mcl_service_reconcile_lag_seconds" in text


def test_while_the_database_is_locked_reads_answer_and_writes_wait(app):
    headers = app.headers()
    job = app.submit(headers).json()["id"]
    with contextlib.closing(sqlite3.connect(app.database.url.database, isolation_level=None)) as locker:
        locker.execute("BEGIN IMMEDIATE")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            posts = [pool.submit(app.submit, headers, f"k{number}") for number in range(8)]
            time.sleep(1)  # for the posts to arrive
            assert app.http.get(f"/api/v1/jobs/{job}", headers=headers).status_code == 200
            assert app.http.get("/healthz").status_code == 200
            assert not any(post.done() for post in posts)
            locker.execute("ROLLBACK")
            assert {post.result().status_code for post in posts} == {202}


def test_a_database_that_stays_locked_is_503_and_the_key_still_gives_one_job(tmp_path):
    for app in running(settings_for(tmp_path, no_reconciler=True, commit_timeout_s=1)):
        headers = app.headers()
        with contextlib.closing(sqlite3.connect(app.database.url.database, isolation_level=None)) as locker:
            locker.execute("BEGIN IMMEDIATE")
            refused = app.submit(headers, "same")
            assert is_problem(refused, 503)
            assert refused.headers["retry-after"]
            locker.execute("ROLLBACK")
        assert wait_for(partial(is_accepted, app, headers))
        assert len(app.http.get("/api/v1/jobs", headers=headers).json()["jobs"]) == 1


def is_accepted(app, headers):
    answer = app.submit(headers, "same")
    assert answer.status_code in (202, 503)
    return answer.status_code == 202


def test_the_application_needs_neither_torch_nor_ray():

    code = """
import sys
for name in ("torch", "torchvision", "ray", "optuna"):
    sys.modules[name] = None
import api.app, api.result_routes, api.service_routes, mcl_ray.client, mcl_ray.cli.serve, mcl_ray.cli.jobs
from mcl_ray.jobs import specs
from mcl_ray.jobs.messages import JobRequest
specs.resolve(JobRequest(kind="sweep", name="digits"))
specs.resolve(JobRequest(kind="table", name="cifar"))
specs.resolve(JobRequest(kind="train", name="moco+lincls"))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_schema_is_the_committed_one(tmp_path):

    committed = json.loads((Path(__file__).parents[2] / "api" / "openapi.json").read_text())
    assert create_app(settings_for(tmp_path)).openapi() == committed
