"""What an operator does: an upgrade of the tables, a backup under load and its restoration, and reading the logs."""

import contextlib
import json
import re
import shlex
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from api import jobs
from api.database import Database, event, metadata
from mcl_ray.errors import StoreError
from tests.support.postgres import programs
from tests.support.service import ServiceProcess

FIXTURES = Path(__file__).parents[1] / "fixtures" / "service"
"""Databases as version 4351c71 of this program left them, with the tables' revision 0001."""
PAGE = (Path(__file__).parents[2] / "docs" / "service.md").read_text()


def test_tables_of_a_later_version_are_left_alone(database_url):
    database = Database(database_url)
    database.migrate()
    with database.write_engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="must be of revision 0003 or before, but are of 9999"):
        database.migrate()
    database.close()


@pytest.fixture
def first_version(database_url):
    database = Database(database_url)
    script = (FIXTURES / f"0001.{database.url.get_backend_name()}.sql").read_text()
    with contextlib.closing(database.write_engine.raw_connection()) as connection:
        (connection.executescript if database.is_sqlite else connection.cursor().execute)(script)
        connection.commit()
    database.write_engine.dispose()  # the script changed its connection's search path
    yield database
    database.close()


def test_tables_of_the_first_version_are_migrated(first_version):
    """Nothing is lost; of two live jobs on one folder, which it could accept by a race, the first one stays."""
    database = first_version
    before = {row.id: row for row in database.read(sa.select(jobs.job))}
    database.migrate()
    with database.write_engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    after = {row.id: row for row in database.read(sa.select(jobs.job))}
    first, second = f"{4:032x}", f"{5:032x}"
    assert len(before) == 5
    assert [job_id for job_id in before if after[job_id] != before[job_id]] == [second]
    assert (after[second].state, after[second].rev) == ("failed", 1)
    assert [row.state for row in jobs.events(database, second, 0)] == ["queued", "failed"]
    assert len(database.read(sa.select(event))) == 13
    assert jobs.live_of_origin(database, after[second].origin) == first
    values = {name: before[second]._mapping[name] for name in ("owner", "body_hash", "kind", "spec", "origin")}
    with database.write_engine.begin() as connection:
        new = values | {"id": "x", "key": "new", "due": 0.0, "created": 0.0}
        assert jobs.Insertion(database, new, 1000)(connection) == (None, False)


def test_a_backup_under_load_is_restored(tmp_path, local_ray, database_url):
    """By the commands of docs/service.md: whatever the backup holds ends once, and its keys still give their jobs."""
    acknowledged, is_over = {}, threading.Event()
    with ServiceProcess(tmp_path, database_url, local_ray) as service:

        def submit():
            while not is_over.wait(0.02):
                key = f"k{len(acknowledged)}"
                acknowledged[key] = service.submit("", key)

        service.start()
        acknowledged["long"] = service.submit("hold", "long")
        service.wait(acknowledged["long"], "running")
        submitter = threading.Thread(target=submit)
        submitter.start()
        while len(acknowledged) < 4:
            assert submitter.is_alive()
            time.sleep(0.02)
        before = dict(acknowledged)
        execute("back up", service)
        in_backup = len(acknowledged)  # and one more, perhaps
        while len(acknowledged) < in_backup + 4:
            assert submitter.is_alive()
            time.sleep(0.02)
        is_over.set()
        submitter.join()
        service.release()
        service.wait(before["long"])
        service.stop()
        execute("restore", service)
        service.start()
        service.wait_until_ready()
        service.check(dict.fromkeys(before.values(), "succeeded"))
        assert {key: submit_again(service, key) for key in before} == before
        known = [job["id"] for job in service.http.get("/jobs?page_size=100").json()["jobs"]]
        assert len(known) == len(set(known)) < len(acknowledged)


def submit_again(service, key):
    return service.submit("hold" if key == "long" else "", key)


def execute(step, service):
    """Run a command of the page on the service's database; a dump of PostgreSQL is restored into a new one."""
    url, folder = sa.make_url(service.database_url), service.folder
    is_sqlite = url.get_backend_name() == "sqlite"
    lines = re.findall(r"^ *((?:python -c|cp|pg_dump|pg_restore) .*?)\s+# (back up|restore)", PAGE, re.MULTILINE)
    (command,) = (text for text, found in lines if found == step and text.startswith("pg_") != is_sqlite)
    if is_sqlite:
        places = {"mcl-service/mcl.db": url.database, "backup.db": f"{folder}/backup.db"}
        if step == "restore":
            for file in Path(url.database).parent.glob(f"{Path(url.database).name}*"):
                file.unlink()
    else:
        if step == "restore":
            new, engine = url.set(database=f"t{uuid.uuid4().hex}"), sa.create_engine(url, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.execute(sa.text(f"CREATE DATABASE {new.database}"))
            engine.dispose()
            url, service.database_url = new, new.render_as_string(hide_password=False)
        address = url.set(drivername="postgresql").render_as_string(hide_password=False)
        places = {"postgresql://db.example/mcl": address, "backup.dump": f"{folder}/backup.dump"}
    for written, actual in places.items():
        command = command.replace(written, actual)
    program, *words = shlex.split(command)
    program = {"python": sys.executable, "cp": "cp"}.get(program) or str(programs() / program)
    subprocess.run([program, *words], check=True)


def test_the_log_connects_a_request_with_its_job(tmp_path, local_ray):
    with ServiceProcess(tmp_path, f"sqlite:///{tmp_path / 'jobs.db'}", local_ray) as service:
        service.start()
        service.wait_until_ready()
        body = {"kind": "sweep", "name": "digits"}
        answer = service.http.post("/jobs", json=body, headers={"X-Request-Id": "of-the-client"})
        assert answer.headers["X-Request-Id"] == "of-the-client"
        job = service.wait(answer.json()["id"])["id"]
        assert service.stop() == 0
    address, *lines = (tmp_path / "service.log").read_text().splitlines()
    assert address.startswith("mcl-ray serves http://")
    entries = [json.loads(line) for line in lines]
    assert all({"event", "level", "timestamp"} <= set(entry) for entry in entries)
    (entry,) = (entry for entry in entries if entry.get("request") == "of-the-client")
    assert (entry["event"], entry["status"], entry["job"], entry["is_new"]) == ("request", 202, job, True)
    looks = [entry for entry in entries if entry.get("path") == f"/api/v1/jobs/{job}"]
    assert {(entry["job"], entry["status"]) for entry in looks} == {(job, 200)}
    of_job = [entry for entry in entries if entry.get("job") == job and entry["event"] == "job_changed"]
    assert {entry["attempt"] for entry in of_job} == {1}
    assert of_job[-1]["state"] == "succeeded"
