"""An application of the service that runs in this process, with a client and keys of its own."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from api import keys
from api.database import Database
from api.settings import Settings
from mcl_ray.cli.serve import http_server
from mcl_ray.jobs.messages import Problem

NOWHERE = "http://127.0.0.1:9"
"""A Ray that never answers."""
JOB = {"kind": "train", "name": "digits", "overrides": {"epochs": 1}}


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
    return Settings(**{"state": tmp_path / "state", "address": NOWHERE, "shutdown_s": 1, **values})


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
    server, listener = http_server(settings), socket.create_server(("127.0.0.1", 0))
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
