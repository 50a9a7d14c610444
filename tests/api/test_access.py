"""Who may do what: keys, scopes, owners, sessions, hosts, and the headers that protect a page."""

import asyncio
import json
import re
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from api import keys, optuna_page
from api.app import create_app
from api.settings import Settings
from tests.support.application import JOB, is_problem, running, settings_for
from tests.support.service import wait_for

OPENAPI = json.loads((Path(__file__).parents[2] / "api" / "openapi.json").read_text())
OPEN = {("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/version"), ("DELETE", "/api/v1/session")}
"""Endpoints that require no key."""
OPTUNA = {("GET", path.replace("{path:path}", "1")) for path in optuna_page.PATHS}
"""Parts of the Optuna dashboard, which the schema leaves out; for admins alone."""
CLOSED = sorted({(method.upper(), path) for path, methods in OPENAPI["paths"].items() for method in methods} - OPEN)
CHANGES_NOTHING = {("POST", "/api/v1/session")}


def scope_of(method, path):
    if (method, path) in OPTUNA:
        return "admin"
    return "read" if method == "GET" or (method, path) in CHANGES_NOTHING else "submit"


def call(app, method, path, headers, job="0" * 32):
    return app.http.request(method, re.sub(r"{(?!job_id)\w+}", "x", path).replace("{job_id}", job), headers=headers)


def test_what_the_matrix_does_not_name_is_known(shared):
    """Every endpoint of the schema is in it or open; beside the schema there are the page and the Optuna dashboard."""
    assert len(CLOSED) > 20
    hidden = {
        route.path
        for route in _routes(create_app(shared.settings))
        if not getattr(route, "methods", None) or not route.include_in_schema
    }
    assert hidden == {"/", "/page", "/api/v1/openapi.json", *optuna_page.PATHS}


def _routes(app):
    for route in app.routes:
        yield from route.original_router.routes if hasattr(route, "original_router") else [route]


@pytest.mark.parametrize(("method", "path"), [*CLOSED, *sorted(OPTUNA)])
def test_nobody_gets_in_who_should_not(shared, method, path):
    owner, scope = shared.headers(), scope_of(method, path)
    job = shared.submit(owner).json()["id"]
    right = shared.key("ada", "read", "submit", "admin")
    for key in ("mcl_000000000000_" + "x" * 43, "x", right[:-8] + right[-8:].swapcase()):
        assert is_problem(call(shared, method, path, {"Authorization": f"Bearer {key}"}, job), 401)
        assert is_problem(call(shared, method, path, {"Cookie": f"mcl_key={key}"}, job), 401)
    assert is_problem(call(shared, method, path, {}, job), 401)
    assert is_problem(call(shared, method, path, shared.headers("ada", expires=time.time() - 1), job), 401)
    revoked = shared.key("ada", "read", "submit", "admin")
    assert keys.revoke(shared.database, revoked.split("_")[1])
    assert is_problem(call(shared, method, path, {"Authorization": f"Bearer {revoked}"}, job), 401)
    for other in {"read", "submit"} - {scope}:
        assert is_problem(call(shared, method, path, shared.headers("ada", other), job), 403)
    if "{job_id}" in path:
        assert is_problem(call(shared, method, path, shared.headers("eve"), job), 404)


def test_a_key_in_use_ends_when_it_is_revoked(shared):
    key = shared.key("ada")
    headers = {"Authorization": f"Bearer {key}"}
    assert shared.http.get("/api/v1/jobs", headers=headers).status_code == 200
    keys.revoke(shared.database, key.split("_")[1])
    wait_for(lambda: shared.http.get("/api/v1/jobs", headers=headers).status_code != 200)
    assert is_problem(shared.http.get("/api/v1/jobs", headers=headers), 401)


def test_a_key_in_use_is_looked_up_after_a_second_and_ends_when_it_expires(shared, monkeypatch):
    now = time.time()
    expires = now + 1.5 * keys.TRUSTED_S
    key, verifier = shared.key("ada", expires=expires), keys.KeyVerifier(shared.database)

    def owner_at(moment):
        monkeypatch.setattr(keys, "time", SimpleNamespace(time=lambda: moment))
        found = asyncio.run(verifier.verify(key))
        return found and found.owner

    looks = []
    sa.event.listen(shared.database.read_engine, "before_cursor_execute", lambda *_: looks.append(1))
    moments = [now, now + 0.9 * keys.TRUSTED_S, now + 1.1 * keys.TRUSTED_S, expires - 0.01, expires, now]
    assert [(owner_at(moment), len(looks)) for moment in moments] == [
        ("ada", 1), ("ada", 1), ("ada", 2), ("ada", 2), (None, 3), ("ada", 4),
    ]  # fmt: skip


def test_one_query_looks_up_all_keys_in_use_and_a_revoked_one_among_them_ends(shared, monkeypatch):
    now, verifier = time.time(), keys.KeyVerifier(shared.database)
    given = [shared.key(owner) for owner in ("ada", "eve", "ben")]

    async def owners(count):
        return [found and found.owner for found in await asyncio.gather(*map(verifier.verify, given * count))]

    monkeypatch.setattr(keys, "time", SimpleNamespace(time=lambda: now))
    assert asyncio.run(owners(2)) == 2 * ["ada", "eve", "ben"]
    keys.revoke(shared.database, given[1].split("_")[1])
    assert asyncio.run(owners(1)) == ["ada", "eve", "ben"], "they are trusted for a second"
    looks = []
    sa.event.listen(shared.database.read_engine, "before_cursor_execute", lambda *_: looks.append(1))
    monkeypatch.setattr(keys, "time", SimpleNamespace(time=lambda: now + 1.1 * keys.TRUSTED_S))
    assert asyncio.run(owners(3)) == 3 * ["ada", None, "ben"]
    assert len(looks) == 1
    assert asyncio.run(owners(1)) == ["ada", None, "ben"]


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
