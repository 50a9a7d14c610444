"""Much of everything: 100,000 jobs in pages, a log of 1 GB, and readers of streams that never read."""

import contextlib
import gc
import itertools
import json
import logging
import re
import socket
from pathlib import Path

import pytest
import sqlalchemy as sa

from api import jobs
from api.database import Database, event
from tests.support.application import running, settings_for
from tests.support.service import wait_for

MIB = 2**20
MANY = 100_000
COLUMNS = "id, owner, key, body_hash, kind, spec, origin, state, due, created"
VALUES = {
    "sqlite": f"""
        WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY - 1})
        INSERT INTO job ({COLUMNS})
        SELECT printf('%032x', i * 7919 % {MANY}), 'ada', i, '', 'train', '{{}}', i, 'succeeded', 0, i / 7 FROM n""",
    "postgresql": f"""
        INSERT INTO job ({COLUMNS})
        SELECT lpad(to_hex(mod(i::bigint * 7919, {MANY})), 32, '0'), 'ada', i::text, '', 'train', '{{}}', i::text,
            'succeeded', 0, i / 7
        FROM generate_series(0, {MANY - 1}) AS i""",
}
"""Statements that add jobs in no order of their ids, seven of each time."""


@pytest.fixture
def many(tmp_path, database_url):
    """An application with many jobs of one owner."""
    for app in running(settings_for(tmp_path, no_reconciler=True, database_url=database_url)):
        database = Database(database_url)
        with database.write_engine.begin() as connection:
            if not database.is_sqlite:
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")  # so many rows may take longer
            connection.exec_driver_sql(VALUES[database.url.get_backend_name()])
            connection.exec_driver_sql("ANALYZE")
        yield app, database
        database.close()


@pytest.mark.slow
def test_many_jobs_are_listed_once_each(many):
    app, _ = many
    headers, found, token = app.headers("ada"), list[dict](), None
    while token is not None or not found:
        after = {"page_token": token} if token else {}
        page = app.http.get("/api/v1/jobs", params={"page_size": 100, **after}, headers=headers).json()
        found += page["jobs"]
        token = page["next_page_token"]
    assert len(found) == len({job["id"] for job in found}) == MANY
    order = [(job["created"], job["id"]) for job in found]
    assert order == sorted(order, reverse=True)


@pytest.mark.slow
def test_a_page_is_read_from_an_index(many):
    """At any depth, of one owner or of all; a sort or a scan of the table would take longer the more jobs there are."""
    _, database = many
    statements = list[tuple[str, object]]()
    sa.event.listen(
        database.read_engine,
        "before_cursor_execute",
        lambda _c, _k, statement, parameters, *_: statements.append((statement, parameters)),
    )
    for owner in ("ada", None):
        first = jobs.page(database, owner, {}, 10, None)
        jobs.page(database, owner, {}, 10, first[-1].id)
    assert len(statements) >= 4
    with database.read_engine.connect() as connection:
        for statement, parameters in statements.copy():
            explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
            plan = "\n".join(map(str, connection.exec_driver_sql(f"{explain} {statement}", parameters)))
            assert re.search(r"USING INDEX|Index Scan", plan), plan
            assert not re.search(r"SCAN job\b(?! USING)|Seq Scan|TEMP B-TREE|Sort", plan), plan


def test_reading_a_log_of_a_gigabyte_takes_little_memory(shared):
    headers = shared.headers()
    job = shared.submit(headers).json()["id"]
    file = shared.settings.results_root / "jobs" / job / "a1.log"
    file.parent.mkdir(parents=True)
    with file.open("wb") as log:
        log.truncate(2**30 - 4)
        log.seek(0, 2)
        log.write(b"end\n")
    url = f"/api/v1/jobs/{job}/logs?count={MIB // 4}"
    for _ in range(16):  # each thread keeps some memory from its first request on
        shared.http.get(url, headers=headers)
    gc.collect()  # what tests before have left
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # begins the measurement of the peak anew
    assert shared.http.get(url, headers=headers).content.endswith(b"\0end\n")
    for offset in range(0, 2**30, 16 * MIB):
        part = shared.http.get(f"{url}&offset={offset}", headers=headers)
        assert part.headers["x-next-offset"] == str(offset + MIB // 4)
    assert memory("VmHWM") - before <= 16 * MIB


def memory(name):
    return 1024 * int(re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])


@pytest.mark.slow
def test_readers_that_stall_delay_nobody(tmp_path, caplog):
    """Another one gets every event while their own connections fill up; once they are gone their places are free.

    That they go is no error. The job does not end: its streams stay open, however much the kernel buffers of each.
    """
    for app in running(settings_for(tmp_path, no_reconciler=True, max_streams_per_owner=51)):
        key = app.key("ada")
        job = app.submit({"Authorization": f"Bearer {key}"}).json()["id"]
        path, headers = f"/api/v1/jobs/{job}", {"Authorization": f"Bearer {key}"}
        with contextlib.ExitStack() as stalled:
            for _ in range(50):
                stalled.enter_context(follow_without_reading(app, job, key))
            values = [
                {"job": job, "state": "running", "attempt": n, "reason": "x" * 5000, "at": 0.0} for n in range(300)
            ]
            with app.database.write_engine.begin() as connection:
                connection.execute(sa.insert(event), values)
            with app.http.stream("GET", f"{path}/events", headers=headers) as stream:
                data = (line for line in stream.iter_lines() if line.startswith("data: "))
                seen = [json.loads(line.removeprefix("data: ")) for line in itertools.islice(data, 301)]
            assert [found["state"] for found in seen] == ["queued", *["running"] * 300]
            assert [found["attempt"] for found in seen[1:]] == list(range(300))
            assert app.http.get(path, headers=headers).status_code == 200
            stalled.enter_context(follow_without_reading(app, job, key))
            assert app.http.get(f"{path}/events", headers=headers).status_code == 429
        follow_without_reading(app, job, key).close()
    assert [record.message for record in caplog.records if record.levelno > logging.INFO] == []


def follow_without_reading(app, job, key):
    """A connection whose answer has begun and is not read any further; one that ended counts a little longer."""
    head = f"GET /api/v1/jobs/{job}/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n"

    def opened():
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((app.http.base_url.host, app.http.base_url.port))
        connection.sendall(head.encode())
        if connection.recv(12) == b"HTTP/1.1 200":
            return connection
        connection.close()
        return None

    return wait_for(opened)
