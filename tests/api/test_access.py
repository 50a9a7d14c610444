"""Who may do what: keys, scopes, owners, sessions, hosts, and the headers that protect a page."""

import time

import pytest

from api import keys
from api.settings import Settings
from tests.api.conftest import JOB, is_problem, running, settings_for

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
