"""The jobs in a real SQLite and a real PostgreSQL: group commit, idempotency, leases and fences."""

import asyncio
import itertools
import json
import threading
import time

import pytest
import sqlalchemy as sa

from api import jobs
from api.database import REVISION, Database, event, job, metadata
from api.writer import Writer
from mcl_ray.cli.serve import program
from mcl_ray.jobs.states import TERMINAL

serial = itertools.count()


def values(owner="ada", key=None, **more):
    number = next(serial)
    return {
        "id": f"{number:032x}",
        "owner": owner,
        "key": key or f"key-{number}",
        "body_hash": "x",
        "kind": "train",
        "label": "",
        "spec": "{}",
        "parent": None,
        "origin": f"{number:032x}",
        "due": time.time() - 1,
        "created": time.time(),
    } | more


@pytest.fixture
def database(database_url):
    found = Database(database_url)
    found.migrate()
    yield found
    found.close()


def test_the_tables_are_migrated_by_a_command_alone(database_url, capsys):
    """As a Job of Kubernetes does it before the service starts; a second time changes nothing."""
    for _ in range(2):
        program("serve")(["migrate", "--database-url", database_url], exit_on_error=False)
        assert capsys.readouterr().out == f"the tables have revision {REVISION}\n"
    made = Database(database_url)
    assert [row[0] for row in made.read(sa.text("SELECT version_num FROM alembic_version"))] == [REVISION]
    made.close()


@pytest.fixture
def writer(database):
    made = Writer(database, timeout_s=20)
    yield made
    made.close()


def claim(database, count=100, max_running=100, lease_s=60.0):
    with database.write_engine.begin() as connection:
        return jobs.claim_due(database, count=count, lease_s=lease_s, max_running=max_running)(connection)


def add(database, **more):
    with database.write_engine.begin() as connection:
        return jobs.Insertion(database, values(**more), 1000)(connection).row


def change(database, row, **new):
    with database.write_engine.begin() as connection:
        return jobs.record(row, new)(connection)


def events_of(database, job_id):
    return [(row.state, row.attempt) for row in jobs.events(database, job_id, 0)]


def test_migrations_make_what_the_code_expects(database):
    """Also when run again, and by several processes at once."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def process():
        other = Database(database.url.render_as_string(False))
        other.migrate()
        other.close()

    threads = [threading.Thread(target=process) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.write_engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_reading_does_not_wait_for_a_transaction_that_writes(database):
    row = add(database)
    with database.write_engine.begin() as connection:
        jobs.cancel(row.id)(connection)
        assert jobs.get(database, row.id, None).desired == "run"
    assert jobs.get(database, row.id, None).desired == "cancelled"


def test_200_identical_submissions_make_one_job(database, writer):
    async def submit_all():
        same = [values(key="same") for _ in range(200)]
        return await asyncio.gather(*(writer.write(jobs.Insertion(database, one, 1000)) for one in same))

    found = asyncio.run(submit_all())
    assert len({one.row.id for one in found}) == 1
    assert sum(one.is_new for one in found) == 1
    assert events_of(database, found[0].row.id) == [("queued", 1)]


def test_a_write_that_fails_spoils_no_other(database, writer):
    def broken(connection):
        raise RuntimeError("broken")

    async def mixed():
        writes = [broken if number % 3 else jobs.Insertion(database, values(), 1000) for number in range(15)]
        return await asyncio.gather(*map(writer.write, writes), return_exceptions=True)

    found = asyncio.run(mixed())
    assert sum(isinstance(one, RuntimeError) for one in found) == 10
    assert sum(isinstance(one, jobs.Submitted) and one.is_new for one in found) == 5
    assert database.read(sa.select(sa.func.count()).select_from(job))[0][0] == 5


def test_writes_share_commits(database, writer):
    commits = []
    sa.event.listen(database.write_engine, "commit", lambda connection: commits.append(1))

    async def submit_many():
        await asyncio.gather(*(writer.write(jobs.Insertion(database, values(), 1000)) for _ in range(300)))

    asyncio.run(submit_many())
    assert len(commits) < 100


def test_submissions_share_statements(database, writer):
    statements = []
    sa.event.listen(database.write_engine, "before_cursor_execute", lambda *given: statements.append(given[2]))

    async def submit_many():
        await asyncio.gather(*(writer.write(jobs.Insertion(database, values(), 1000)) for _ in range(300)))

    asyncio.run(submit_many())
    assert sum("INSERT INTO job" in statement for statement in statements) < 100


def test_of_submissions_that_share_a_statement_as_many_are_taken_as_their_owners_have_room(database):
    """A key that is sent again takes no room, be its job in the table already or in the same statement."""
    add(database, key="old")
    keys = ("a", "old", "a", "b", "c", "d")
    writes = [
        jobs.Insertion(database, values(owner, key), most) for key in keys for owner, most in (("ada", 3), ("eve", 2))
    ]
    with database.write_engine.begin() as connection:
        made = jobs.Insertion.together(connection, writes)
    for owner, new, known in (("ada", ["a", "b"], ["old", "a"]), ("eve", ["a", "old"], ["a"])):
        found = [(w.values["key"], one) for w, one in zip(writes, made, strict=True) if w.values["owner"] == owner]
        assert [key for key, one in found if one.is_new] == new
        assert [key for key, one in found if one.row and not one.is_new] == known
        assert all(one.row.key == key for key, one in found if one.row)
        assert len(jobs.page(database, owner, {}, 100, None)) == (3 if owner == "ada" else 2)
    for one in made:
        assert not one.is_new or events_of(database, one.row.id) == [("queued", 1)]


def test_a_lease_keeps_other_processes_away_until_it_ends(database):
    row = add(database)
    assert [found.id for found in claim(database, lease_s=60)] == [row.id]
    assert claim(database) == []
    with database.write_engine.begin() as connection:
        connection.execute(sa.update(job).values(due=job.c.due - 60))
    assert [found.id for found in claim(database)] == [row.id]


def test_claims_of_several_processes_are_disjoint_and_bounded(database):
    for _ in range(40):
        add(database)
    found, url = [], database.url.render_as_string(False)

    def process():
        other = Database(url)
        for _ in range(10):
            found.extend(row.id for row in claim(other, count=3, max_running=25))
        other.close()

    threads = [threading.Thread(target=process) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(set(found)) == 25


def test_one_of_two_that_stepped_on_a_job_writes(database):
    add(database)
    (row,) = claim(database)
    assert change(database, row, state="running")
    assert not change(database, row, state="failed")
    assert events_of(database, row.id) == [("queued", 1), ("running", 1)]


@pytest.mark.parametrize("state", TERMINAL)
def test_a_terminal_state_never_changes(database, state):
    add(database)
    (row,) = claim(database)
    assert change(database, row, state=state)
    ended = jobs.get(database, row.id, None)
    assert not change(database, ended, state="running")
    assert not change(database, row, state="running")
    with database.write_engine.begin() as connection:
        assert not jobs.cancel(row.id)(connection)
        assert jobs.wake_all(connection) == 0
    assert claim(database) == []
    assert jobs.get(database, row.id, None) == ended


def test_a_cancel_during_a_step_is_not_overwritten(database):
    add(database)
    (row,) = claim(database)
    with database.write_engine.begin() as connection:
        assert jobs.cancel(row.id)(connection)
    assert not change(database, row, state="running", due=time.time() + 99)
    (again,) = claim(database)
    assert again.desired == "cancelled"


def test_pages_hold_every_job_once_and_only_the_owners(database):
    mine = [add(database, created=float(number // 3)).id for number in range(25)]
    add(database, owner="eve")
    found, after = [], None
    while rows := jobs.page(database, "ada", {}, 4, after):
        found += [row.id for row in rows]
        after = rows[-1].id
    assert sorted(found) == sorted(mine)
    assert found == [row.id for row in jobs.page(database, "ada", {}, 100, None)]
    assert len(jobs.page(database, None, {}, 100, None)) == 26


def test_a_row_with_garbage_spoils_no_other(database):
    add(database, spec='{"request": ')
    add(database)
    assert len(claim(database)) == 2
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(jobs.page(database, None, {}, 10, None)[1].spec)


def test_event_ids_grow(database):
    for _ in range(3):
        add(database)
    ids = [row.id for row in database.read(sa.select(event).order_by(event.c.at))]
    assert ids == sorted(set(ids))
