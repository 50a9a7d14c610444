"""Services of the tests' own: a database of each kind, an application in this process, keys, and a real Ray."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
import structlog
import uvicorn

from api import keys
from api.app import create_app
from api.database import Database
from api.settings import Settings
from mcl_ray.jobs.messages import Problem
from tests.support.postgres import postgres
from tests.support.s3 import CREDENTIALS
from tests.support.service import ServiceProcess, wait_until_ready
from trainables.cluster.local_ray import LocalRay

structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))

NOWHERE = "http://127.0.0.1:9"
"""A Ray that never answers."""
JOB = {"kind": "train", "name": "digits", "overrides": {"epochs": 1}}


@pytest.fixture(scope="package")
def postgres_server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'jobs.db'}"
        return
    server = sa.make_url(request.getfixturevalue("postgres_server"))
    name = f"t{uuid.uuid4().hex}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    yield server.set(database=name).render_as_string(hide_password=False)


@dataclass
class App:
    """An application that runs in this process, and clients of it."""

    settings: Settings
    database: Database
    http: httpx.Client

    def key(self, owner: str = "ada", *scopes: str, expires: float | None = None) -> str:
        return keys.create(self.database, owner, scopes or ("read", "submit"), expires)

    def headers(self, *arguments: object, **options: object) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key(*arguments, **options)}"}

    def submit(self, headers: dict[str, str], key: str | None = None, **body: object) -> httpx.Response:
        sent = headers | ({"Idempotency-Key": key} if key else {})
        return self.http.post("/api/v1/jobs", json=JOB | body, headers=sent)


def settings_for(tmp_path: Path, **values: object) -> Settings:
    return Settings(**{"state": tmp_path / "state", "address": NOWHERE, **values})


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """On SQLite, without a Ray and without a reconciler."""
    yield from running(settings_for(tmp_path, no_reconciler=True))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The same, one for the tests of a module that do not mind each other's jobs."""
    yield from running(settings_for(tmp_path_factory.mktemp("service"), no_reconciler=True))


def is_problem(answer: httpx.Response, status: int) -> bool:
    """Check that an answer is an error as RFC 9457 has it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = Problem.model_validate_json(answer.content)
    assert (found.status, found.request_id) == (status, answer.headers["x-request-id"])
    return True


def end(app: App, job: str, state: str) -> None:
    """End a job, as a reconciler does."""
    with contextlib.closing(sqlite3.connect(app.database.url.database)) as connection, connection:
        connection.execute("UPDATE job SET state = ?, reason = 'because' WHERE id = ?", (state, job))
        connection.execute("INSERT INTO event (job, state, attempt, at) VALUES (?, ?, 1, 0)", (job, state))


def running(settings: Settings) -> Iterator[App]:
    database = Database(settings.url_of_database)
    config = uvicorn.Config(create_app(settings), log_config=None, timeout_graceful_shutdown=1)
    server, listener = uvicorn.Server(config), socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        port = listener.getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            while not server.started:
                assert thread.is_alive(), "the application did not start"
                time.sleep(0.02)
            yield App(settings, database, http)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
        database.close()


@pytest.fixture(scope="package")
def local_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRay]:
    """A real Ray that asks for a token, one for all tests; its drivers may use `tests.support.s3`."""
    with pytest.MonkeyPatch.context() as variables:
        for name, value in CREDENTIALS.items():
            variables.setenv(name, value)
        ray = LocalRay(tmp_path_factory.mktemp("ray"))
        ray.start()
        try:
            yield ray
        finally:
            ray.stop()


@pytest.fixture(scope="package")
def ray(local_ray):
    """The Ray, once it can start jobs."""
    wait_until_ready(local_ray)
    return local_ray


@pytest.fixture
def service(tmp_path, database_url, ray):
    with ServiceProcess(tmp_path, database_url, ray) as made:
        made.start()
        yield made


@pytest.hookimpl(tryfirst=True)  # before that of tests/conftest.py, which was loaded earlier
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have one process of pytest-xdist run all tests that need that Ray; they are slow."""
    for item in items:
        if "local_ray" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("the service's Ray"))
            item.add_marker(pytest.mark.slow)
