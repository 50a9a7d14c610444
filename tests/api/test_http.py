"""The HTTP interface of a real application: who may do what, errors, idempotency, pages, limits, headers, formats."""

import concurrent.futures
import contextlib
import io
import json
import re
import socket
import sqlite3
import threading
import time

import pyarrow.parquet as pq
import pytest

from api import keys
from api.app import create_app
from api.settings import Settings
from mcl_ray.jobs.messages import Problem
from tests.api.conftest import JOB, running, settings_for

ROUTES = [
    ("GET", "/api/v1/jobs", "read"),
    ("POST", "/api/v1/jobs", "submit"),
    ("GET", "/api/v1/jobs/{job}", "read"),
    ("POST", "/api/v1/jobs/{job}/cancel", "submit"),
    ("POST", "/api/v1/jobs/{job}/retry", "submit"),
    ("POST", "/api/v1/jobs/{job}/extend", "submit"),
    ("GET", "/api/v1/jobs/{job}/events", "read"),
    ("GET", "/api/v1/jobs/{job}/trials", "read"),
    ("GET", "/api/v1/jobs/{job}/summary", "read"),
    ("GET", "/api/v1/jobs/{job}/runs", "read"),
    ("GET", "/api/v1/jobs/{job}/metrics", "read"),
    ("GET", "/api/v1/jobs/{job}/report", "read"),
    ("GET", "/api/v1/jobs/{job}/artifacts", "read"),
    ("GET", "/api/v1/jobs/{job}/artifacts/{path}", "read"),
    ("GET", "/api/v1/jobs/{job}/logs", "read"),
    ("POST", "/api/v1/session", "read"),
    ("GET", "/api/v1/recipes", "read"),
    ("GET", "/api/v1/searches", "read"),
    ("GET", "/api/v1/suites", "read"),
    ("GET", "/api/v1/schema", "read"),
    ("GET", "/metrics", "read"),
]
OPEN = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/version"), ("DELETE", "/api/v1/session")}
BODIES = {"/api/v1/jobs": JOB, "/api/v1/jobs/{job}/extend": {"trials": 1}}


def call(app, method, route, headers, job="0" * 32):
    path = route.replace("{job}", job).replace("{path}", "x")
    return app.http.request(method, path, headers=headers, json=BODIES.get(route) if method == "POST" else None)


def is_problem(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = Problem.model_validate_json(answer.content)
    assert (found.status, found.request_id) == (status, answer.headers["x-request-id"])
    return True


def test_the_matrix_names_every_endpoint(shared):
    paths = shared.http.get("/api/v1/openapi.json").json()["paths"]
    known = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    named = {(method, route.replace("{job}", "{job_id}")) for method, route, _ in ROUTES}
    assert known == named | OPEN


@pytest.mark.parametrize(("method", "route", "scope"), ROUTES)
def test_nobody_gets_in_who_should_not(shared, method, route, scope):
    owner = shared.headers()
    job = shared.submit(owner).json()["id"]
    assert is_problem(call(shared, method, route, {}, job), 401)
    assert is_problem(call(shared, method, route, {"Authorization": "Bearer mcl_000000000000_" + "x" * 43}, job), 401)
    assert is_problem(call(shared, method, route, {"Authorization": "Bearer x"}, job), 401)
    assert is_problem(call(shared, method, route, shared.headers("ada", expires=time.time() - 1), job), 401)
    right = shared.key("ada", "read", "submit", "admin")
    wrong = right[:-8] + right[-8:].swapcase()
    assert is_problem(call(shared, method, route, {"Authorization": f"Bearer {wrong}"}, job), 401)
    revoked = shared.key("ada", "read", "submit", "admin")
    assert keys.revoke(shared.database, revoked.split("_")[1])
    assert is_problem(call(shared, method, route, {"Authorization": f"Bearer {revoked}"}, job), 401)
    other = "submit" if scope == "read" else "read"
    assert is_problem(call(shared, method, route, shared.headers("ada", other), job), 403)
    if "{job}" in route:
        assert is_problem(call(shared, method, route, shared.headers("eve"), job), 404)


def test_lists_hold_the_owners_jobs_and_admins_see_all(app):
    ada, eve = app.headers("ada"), app.headers("eve")
    job = app.submit(ada).json()["id"]
    assert [found["id"] for found in app.http.get("/api/v1/jobs", headers=ada).json()["jobs"]] == [job]
    assert app.http.get("/api/v1/jobs", headers=eve).json()["jobs"] == []
    assert app.http.get("/api/v1/jobs?owner=ada", headers=eve).json()["jobs"] == []
    admin = app.headers("root", "admin")
    assert [found["id"] for found in app.http.get("/api/v1/jobs?owner=ada", headers=admin).json()["jobs"]] == [job]
    assert app.http.get("/api/v1/jobs?owner=eve", headers=admin).json()["jobs"] == []


def test_another_owners_job_is_no_source(shared):
    job = shared.submit(shared.headers("ada")).json()["id"]
    body = {"kind": "export", "source": job}
    assert is_problem(shared.http.post("/api/v1/jobs", json=body, headers=shared.headers("eve")), 404)
    assert shared.http.post("/api/v1/jobs", json=body, headers=shared.headers("ada")).status_code == 202


def test_one_key_gives_one_job(app):
    headers = app.headers()
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: app.submit(headers, "same"), range(200)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert answers[0].headers["location"] == f"/api/v1/jobs/{answers[0].json()['id']}"
    assert len(app.http.get("/api/v1/jobs", headers=headers).json()["jobs"]) == 1
    assert is_problem(app.submit(headers, "same", label="other"), 422)
    assert app.submit(app.headers("eve"), "same").json()["id"] != answers[0].json()["id"]


@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        ({"kind": "train"}, "", "`name` is given"),
        ({"kind": "bake", "name": "digits"}, "/kind", "Input should be"),
        ({"kind": "train", "name": "../../etc/passwd"}, "/name", "pattern"),
        ({"kind": "train", "name": "digits.yaml"}, "/name", "pattern"),
        ({"kind": "train", "name": "digits", "env": {"A": "b"}}, "/env", "Extra"),
        ({"kind": "train", "name": "digits", "overrides": {"a b": 1}}, "/overrides/a b/[key]", "pattern"),
        ({"kind": "train", "name": "digits", "execution": {"address": "x"}}, "/execution/address", "Extra"),
        ({"kind": "export", "name": None}, "", "requires `source`"),
        ({"kind": "train", "name": "digts"}, None, "did you mean 'digits'"),
        ({"kind": "train", "name": "digits", "overrides": {"alhpa": 1}}, None, "did you mean 'alpha'"),
        ({"kind": "train", "name": "digits", "overrides": {"alpha": -1}}, None, "greater than or equal to 0"),
        ({"kind": "sweep", "name": "digits", "overrides": {"study": "sqlite:////tmp/x"}}, None, "cannot be given"),
        ({"kind": "sweep", "name": "digits", "overrides": {"warm_start": ["a"]}}, None, "cannot be given"),
        ({"kind": "train", "name": "digits", "execution": {"workers": "4..2"}}, None, "workers"),
        ({"kind": "linear", "name": "digits", "source": "0" * 32}, None, "trains its own"),
    ],
)
def test_a_request_that_breaks_a_rule_is_told_which(shared, body, pointer, words):
    answer = shared.http.post("/api/v1/jobs", json=body, headers=shared.headers())
    assert is_problem(answer, 422)
    found = answer.json()
    texts = [found["detail"], *(part["detail"] for part in found["errors"])]
    assert any(words in text for text in texts), found
    if pointer is not None:
        assert pointer in [part["pointer"] for part in found["errors"]]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nope", 404),
        ("/api/v1/jobs/../../etc/passwd", 404),
        ("/api/v1/jobs?page_size=0", 422),
        ("/api/v1/jobs?page_token=xx", 422),
        ("/api/v1/jobs?page_token=WzEsMl0=", 422),
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


def test_a_stalled_submitter_is_sent_away(tmp_path):
    for app in running(settings_for(tmp_path, no_reconciler=True, body_timeout_s=0.5)):
        key, url = app.key(), app.http.base_url
        with socket.create_connection((url.host, url.port)) as connection:
            head = f"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
            connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{".encode())
            connection.settimeout(20)
            assert b"408" in connection.recv(4096)
        assert app.http.get("/healthz").status_code == 200


def test_pages(app):
    headers = app.headers()
    made = [app.submit(headers, label=f"l{number % 2}").json()["id"] for number in range(7)]
    found, token = [], ""
    while token is not None:
        page = app.http.get(
            "/api/v1/jobs", params={"page_size": 3} | ({"page_token": token} if token else {}), headers=headers
        )
        assert page.status_code == 200, page.text
        found += [job["id"] for job in page.json()["jobs"]]
        token = page.json()["next_page_token"]
    assert found == made[::-1]
    labelled = app.http.get("/api/v1/jobs?label=l1&state=queued&kind=train", headers=headers).json()["jobs"]
    assert [job["id"] for job in labelled] == made[1::2][::-1]


def test_states_forbid_what_makes_no_sense(app):
    headers = app.headers()
    job = app.submit(headers).json()["id"]
    assert is_problem(app.http.post(f"/api/v1/jobs/{job}/retry", headers=headers), 409)
    assert is_problem(app.http.post(f"/api/v1/jobs/{job}/extend", json={"trials": 1}, headers=headers), 409)
    assert app.http.post(f"/api/v1/jobs/{job}/cancel", headers=headers).json()["desired"] == "cancelled"
    assert app.http.post(f"/api/v1/jobs/{job}/cancel", headers=headers).status_code == 202
    _end(app, job, "cancelled")
    assert app.http.post(f"/api/v1/jobs/{job}/cancel", headers=headers).status_code == 202  # it is what was asked for
    child = app.http.post(f"/api/v1/jobs/{job}/retry", headers=headers | {"Idempotency-Key": "again"})
    assert child.status_code == 202
    assert (child.json()["parent"], child.json()["origin"]) == (job, job)
    same = app.http.post(f"/api/v1/jobs/{job}/retry", headers=headers | {"Idempotency-Key": "again"})
    assert same.json()["id"] == child.json()["id"]
    assert is_problem(app.http.post(f"/api/v1/jobs/{job}/retry", headers=headers), 409)  # one writer a folder
    _end(app, child.json()["id"], "succeeded")
    assert is_problem(app.http.post(f"/api/v1/jobs/{child.json()['id']}/cancel", headers=headers), 409)


def _end(app, job, state):
    with contextlib.closing(sqlite3.connect(app.database.url.database)) as connection, connection:
        connection.execute("UPDATE job SET state = ? WHERE id = ?", (state, job))
        connection.execute("INSERT INTO event (job, state, attempt, at) VALUES (?, ?, 1, 0)", (job, state))


def test_a_sweep_that_is_extended_twice_has_the_sum_of_trials(app):
    headers = app.headers()
    body = {"kind": "sweep", "name": "digits", "overrides": {"trials": 3}}
    job = app.http.post("/api/v1/jobs", json=body, headers=headers).json()["id"]
    for trials in (2, 4):
        _end(app, job, "succeeded")
        answer = app.http.post(f"/api/v1/jobs/{job}/extend", json={"trials": trials}, headers=headers)
        assert answer.status_code == 202, answer.text
        job = answer.json()["id"]
    from mcl_ray.jobs.messages import JobSpec
    from mcl_ray.jobs.specs import total_trials

    with contextlib.closing(sqlite3.connect(app.database.url.database)) as connection:
        (spec,) = connection.execute("SELECT spec FROM job WHERE id = ?", (job,)).fetchone()
    assert total_trials(JobSpec.model_validate_json(spec)) == 9


def test_quotas(tmp_path):
    for app in running(settings_for(tmp_path, no_reconciler=True, max_jobs_per_owner=2, max_streams_per_owner=1)):
        headers = app.headers()
        job = app.submit(headers, "a").json()["id"]
        app.submit(headers, "b")
        refused = app.submit(headers, "c")
        assert is_problem(refused, 429)
        assert refused.headers["retry-after"]
        assert app.submit(headers, "a").json()["id"] == job
        assert app.submit(app.headers("eve")).status_code == 202
        with app.http.stream("GET", f"/api/v1/jobs/{job}/events", headers=headers) as stream:
            assert stream.status_code == 200
            assert is_problem(app.http.get(f"/api/v1/jobs/{job}/events", headers=headers), 429)
            _end(app, job, "failed")
            stream.read()
        assert app.http.get(f"/api/v1/jobs/{job}/events", headers=headers).status_code == 200


def test_events_are_replayed_and_followed(app):
    headers = app.headers()
    job = app.submit(headers).json()["id"]
    timer = threading.Timer(1.0, _end, (app, job, "succeeded"))
    timer.start()
    with app.http.stream("GET", f"/api/v1/jobs/{job}/events", headers=headers) as stream:
        text = stream.read().decode()
    timer.join()
    ids = re.findall(r"^id: (\d+)$", text, re.MULTILINE)
    states = [json.loads(line)["state"] for line in re.findall(r"^data: (.*)$", text, re.MULTILINE)]
    assert states == ["queued", "succeeded"]
    again = app.http.get(f"/api/v1/jobs/{job}/events", headers=headers | {"Last-Event-ID": ids[0]}).text
    assert re.findall(r"^id: (\d+)$", again, re.MULTILINE) == ids[1:]


def test_a_stream_that_fails_says_so(app, monkeypatch):
    headers = app.headers()
    job = app.submit(headers).json()["id"]
    monkeypatch.setattr("api.jobs.events", lambda *_: 1 / 0)
    text = app.http.get(f"/api/v1/jobs/{job}/events", headers=headers).text
    assert "event: error" in text


def test_the_page_of_another_site_reaches_nothing(shared):
    assert is_problem(shared.http.get("/healthz", headers={"Host": "evil.example"}), 400)
    answer = shared.http.get("/api/v1/jobs", headers=shared.headers() | {"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_headers_protect_every_answer(shared):
    for answer in (shared.http.get("/healthz"), shared.http.get("/nope"), shared.http.get("/api/v1/jobs")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"


def test_a_session_is_a_cookie_that_scripts_cannot_read(app):
    answer = app.http.post("/api/v1/session", headers=app.headers())
    cookie = answer.headers["set-cookie"]
    assert answer.status_code == 204
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert app.http.get("/api/v1/jobs").status_code == 200  # by the cookie
    app.http.delete("/api/v1/session")
    assert app.http.get("/api/v1/jobs").status_code == 401


def test_without_keys_only_on_loopback(tmp_path):
    with pytest.raises(ValueError, match="loopback"):
        Settings(host="0.0.0.0", insecure_local=True)
    for app in running(settings_for(tmp_path, no_reconciler=True, insecure_local=True)):
        assert app.http.post("/api/v1/jobs", json=JOB).json()["owner"] == "local"


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


def test_a_dry_run_submits_nothing(app):
    headers = app.headers()
    answer = app.http.post(
        "/api/v1/jobs?validate_only=true",
        json={"kind": "sweep", "name": "digits", "overrides": {"trials": 2, "repeats": 3}},
        headers=headers,
    )
    assert answer.status_code == 200
    assert answer.json()["runs"] == 6
    assert app.http.get("/api/v1/jobs", headers=headers).json()["jobs"] == []


@pytest.fixture
def swept(app):
    """A job with the results of a sweep."""
    from tests.support.synthetic import write_sweep

    headers = app.headers()
    job = app.submit(headers).json()["id"]
    folder = app.settings.results_root / "jobs" / job / "results"
    folder.mkdir(parents=True)
    write_sweep(folder, [{"losses.alpha": number / 10} for number in range(8)])
    return headers, f"/api/v1/jobs/{job}"


@pytest.mark.parametrize("name", ["trials", "runs", "metrics"])
def test_results_in_three_formats(app, swept, name):
    headers, path = swept
    plain = app.http.get(f"{path}/{name}", headers=headers)
    rows = plain.json()["rows"]
    assert rows
    parquet = app.http.get(f"{path}/{name}", headers=headers | {"Accept": "application/vnd.apache.parquet"})
    assert len(rows) == pq.read_table(io.BytesIO(parquet.content)).num_rows
    csv = app.http.get(f"{path}/{name}", headers=headers | {"Accept": "text/csv"})
    assert csv.headers["content-type"].startswith("text/csv")
    assert csv.text.splitlines()[0].replace('"', "").split(",") == list(rows[0])
    assert is_problem(app.http.get(f"{path}/{name}", headers=headers | {"Accept": "image/png"}), 406)
    again = app.http.get(f"{path}/{name}", headers=headers | {"If-None-Match": plain.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert app.http.get(f"{path}/{name}", headers=headers | {"If-None-Match": '"other"'}).status_code == 200


def test_the_ranking_is_the_reports(app, swept):
    headers, path = swept
    rows = app.http.get(f"{path}/trials", headers=headers).json()["rows"]
    scored = [row["score"] for row in rows if row["score"] is not None]
    assert scored == sorted(scored, reverse=True)
    assert json.loads(rows[0]["searched"])


def test_metrics_are_filtered(app, swept):
    headers, path = swept
    run = app.http.get(f"{path}/runs", headers=headers).json()["rows"][0]["run_id"]
    rows = app.http.get(f"{path}/metrics", params={"run": run, "metric": "top1"}, headers=headers).json()["rows"]
    assert rows
    assert {(row["run_id"], row["metric"]) for row in rows} == {(run, "top1")}


def test_logs_are_read_in_parts(shared):
    headers = shared.headers()
    job = shared.submit(headers).json()["id"]
    file = shared.settings.results_root / "jobs" / job / "a1.log"
    file.parent.mkdir(parents=True)
    file.write_text("<script>alert(1)</script>" + "x" * 100 + "end")
    answer = shared.http.get(f"/api/v1/jobs/{job}/logs", params={"count": 3}, headers=headers)
    assert (answer.text, answer.headers["x-next-offset"]) == ("end", "128")
    assert answer.headers["content-type"].startswith("text/plain")
    assert shared.http.get(f"/api/v1/jobs/{job}/logs?offset=0&count=8", headers=headers).text == "<script>"
    assert shared.http.get(f"/api/v1/jobs/{job}/logs?offset=9999", headers=headers).text == ""


def test_artifacts_are_what_the_manifest_lists(shared):
    headers = shared.headers()
    job = shared.submit(headers).json()["id"]
    folder = shared.settings.results_root / "jobs" / job
    (folder / "results" / "runs").mkdir(parents=True)
    (folder / "results" / "a.txt").write_text("hello")
    (folder / "secret").write_text("secret")
    files = {name: {"bytes": 5, "sha256": "0"} for name in ("a.txt", "../secret")}
    (folder / "a1.manifest").write_text(json.dumps({"files": files}))
    path = f"/api/v1/jobs/{job}/artifacts"
    assert len(shared.http.get(path, headers=headers).json()) == 2
    assert shared.http.get(f"{path}/a.txt", headers=headers).text == "hello"
    for name in ("..%2fsecret", "%2e%2e/secret", "b.txt", "../secret", "/etc/passwd"):
        assert shared.http.get(f"{path}/{name}", headers=headers).status_code in (404, 307), name


def test_garbage_rows_are_shown_and_spoil_nothing(app):
    headers = app.headers()
    good, bad = app.submit(headers).json()["id"], app.submit(headers).json()["id"]
    with contextlib.closing(sqlite3.connect(app.database.url.database)) as connection, connection:
        connection.execute("UPDATE job SET spec = '{', state = 'bogus' WHERE id = ?", (bad,))
    found = app.http.get("/api/v1/jobs", headers=headers).json()["jobs"]
    assert [job["id"] for job in found] == [bad, good]
    assert app.http.get(f"/api/v1/jobs/{bad}", headers=headers).json()["request"] is None


def test_while_the_database_is_locked_reads_answer_and_writes_wait(app):
    headers = app.headers()
    job = app.submit(headers).json()["id"]
    with contextlib.closing(sqlite3.connect(app.database.url.database, isolation_level=None)) as locker:
        locker.execute("BEGIN IMMEDIATE")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            posts = [pool.submit(app.submit, headers, f"k{number}") for number in range(8)]
            time.sleep(1)
            started = time.monotonic()
            assert app.http.get(f"/api/v1/jobs/{job}", headers=headers).status_code == 200
            assert app.http.get("/healthz").status_code == 200
            assert time.monotonic() - started < 5
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
        assert app.submit(headers, "same").status_code == 202
        assert len(app.http.get("/api/v1/jobs", headers=headers).json()["jobs"]) == 1


def test_the_application_needs_neither_torch_nor_ray():
    import subprocess
    import sys

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
    from pathlib import Path

    committed = json.loads((Path(__file__).parents[2] / "api" / "openapi.json").read_text())
    assert create_app(settings_for(tmp_path)).openapi() == committed


def test_json_has_no_nan(app):
    import pyarrow as pa
    from starlette.requests import Request

    from api.tables import table

    request = Request({"type": "http", "headers": [(b"accept", b"application/json")]})
    answer = table(request, pa.table({"a": [float("nan"), float("inf"), 1.0], "b": [[float("nan")], [2.0], []]}))
    rows = json.loads(answer.body)["rows"]
    assert rows == [{"a": None, "b": [None]}, {"a": None, "b": [2.0]}, {"a": 1.0, "b": []}]
