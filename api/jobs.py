"""The jobs in the database: every statement that reads or writes one."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from api.database import IS_LIVE, Database, event, job
from api.writer import Write
from mcl_ray.errors import SpecError
from mcl_ray.jobs.states import LIVE, State

Row = sa.Row[*tuple[Any, ...]]
ACTIVE = job.c.state.in_(("starting", "running"))
NOT_WANTED = (job.c.state == "queued") & ((job.c.desired < "run") | (job.c.desired > "run"))
"""Jobs that are cancelled, or whose rows make no sense; two ranges of the index."""
WANTED = (job.c.state == "queued") & (job.c.desired == "run")
_JOB = sa.select(job).where(job.c.id == sa.bindparam("job_id"))
_EVENT = sa.insert(event)


class Submitted(NamedTuple):
    """The job of a submission, new or not; none if it was refused."""

    row: Row | None
    is_new: bool


@dataclass(frozen=True)
class Insertion:
    """The write that adds a job, unless its owner has one of the same key; then that one is returned.

    It is refused above the owner's quota of `most` live jobs, and while another job writes into the same folder.
    """

    database: Database
    values: dict[str, Any]
    most: int

    def __call__(self, connection: sa.Connection) -> Submitted:
        """Add the job."""
        if added := _added(self.database, connection, [self.values | {"room": self.most}]):
            return Submitted(added[0], True)
        same = (job.c.owner == self.values["owner"]) & (job.c.key == self.values["key"])
        return Submitted(connection.execute(sa.select(job).where(same)).one_or_none(), False)

    @classmethod
    def together(cls, connection: sa.Connection, writes: Sequence[Insertion]) -> list[Submitted]:
        """Add the jobs in one statement; those that it left out are tried again, each alone."""
        given, before = list[dict[str, Any]](), Counter[str]()
        for write in writes:  # of a statement's own rows, its count of an owner's jobs has none
            owner = write.values["owner"]
            given.append(write.values | {"room": write.most - before[owner]})
            before[owner] += 1
        added = {row.id: row for row in _added(writes[0].database, connection, given)}
        new = [added.get(write.values["id"]) for write in writes]
        return [
            write(connection) if row is None else Submitted(row, True) for write, row in zip(writes, new, strict=True)
        ]


def claim_due(database: Database, *, count: int, lease_s: float, max_running: int) -> Write[list[Row]]:
    """Return the write that leases jobs whose time has come, and moves queued ones to `starting` while there is room.

    The lease is `due` pushed ahead: the jobs of a process that dies become due again by themselves.
    """

    def write(connection: sa.Connection) -> list[Row]:
        database.lock(connection, "claim")
        now = time.time()

        def pick(condition: sa.ColumnElement[bool], most: int) -> list[str]:
            if most <= 0:
                return []
            query = sa.select(job.c.id).where(condition, job.c.due <= now).order_by(job.c.due).limit(most)
            return list(connection.scalars(query.with_for_update(skip_locked=True)))

        active = connection.scalar(sa.select(sa.func.count()).where(ACTIVE)) or 0
        ids = [*pick(ACTIVE, count), *pick(NOT_WANTED, count), *pick(WANTED, min(count, max_running - active))]
        if not ids:
            return []
        started = sa.case((WANTED, "starting"), else_=job.c.state)
        values = {"due": now + lease_s, "rev": job.c.rev + 1, "state": started}
        return list(connection.execute(sa.update(job).where(job.c.id.in_(ids)).values(values).returning(job)))

    return write


def record(row: Row, values: dict[str, Any]) -> Write[bool]:
    """Return the write that changes a live job, unless another process changed it since `row` was read."""

    def write(connection: sa.Connection) -> bool:
        same = (job.c.id == row.id) & (job.c.rev == row.rev) & IS_LIVE
        found = connection.execute(sa.update(job).where(same).values(values | {"rev": row.rev + 1})).rowcount == 1
        state, attempt = values.get("state", row.state), values.get("attempt", row.attempt)
        last = sa.select(event.c.state, event.c.attempt).where(event.c.job == row.id).order_by(event.c.id.desc())
        if found and connection.execute(last.limit(1)).one_or_none() != (state, attempt):
            _add_event(connection, row.id, state, attempt, values.get("reason", row.reason))
        return found

    return write


def cancel(job_id: str) -> Write[bool]:
    """Return the write that asks for the end of a live job; it is false for one that has ended."""

    def write(connection: sa.Connection) -> bool:
        values = {"desired": "cancelled", "due": 0.0, "rev": job.c.rev + 1}
        return connection.execute(sa.update(job).where(job.c.id == job_id, IS_LIVE).values(values)).rowcount == 1

    return write


def wake_all(connection: sa.Connection) -> int:
    """Make every live job due: with SQLite no other process holds a lease when this one starts."""
    return connection.execute(sa.update(job).where(IS_LIVE, job.c.due > 0).values(due=0.0)).rowcount


def limit_due(ahead_s: float) -> Write[int]:
    """Return the write that makes every live job due within `ahead_s`, after the clock has jumped back.

    Nothing has a longer lease: what is due later was written by the clock as it was.
    """

    def write(connection: sa.Connection) -> int:
        latest = time.time() + ahead_s
        return connection.execute(sa.update(job).where(IS_LIVE, job.c.due > latest).values(due=latest)).rowcount

    return write


def get(database: Database, job_id: str, owner: str | None) -> Row | None:
    """Return a job; None if there is none, or if it belongs to another owner than `owner`, who is None for all."""
    found = database.read(_JOB, {"job_id": job_id})
    return found[0] if found and owner in (None, found[0].owner) else None


def live_of_origin(database: Database, origin: str) -> str | None:
    """Return the live job that writes into the folder of `origin`, if there is one."""
    found = database.read(sa.select(job.c.id).where(job.c.origin == origin, IS_LIVE).limit(1))
    return str(found[0].id) if found else None


def page(database: Database, owner: str | None, filters: dict[str, str], size: int, after: str | None) -> list[Row]:
    """Return jobs, the newest first, from the one after the job `after` on.

    Raises:
        SpecError: there is no job `after`.
    """
    query = sa.select(job).where(_owned_by(owner)).order_by(job.c.created.desc(), job.c.id.desc()).limit(size)
    for column, value in filters.items():
        query = query.where(job.c[column] == value)
    if after is not None:
        found = database.read(sa.select(job.c.created, job.c.id).where(job.c.id == after))
        if not found:
            raise SpecError(f"a page begins after a job, but there is no job {after}")
        query = query.where(sa.tuple_(job.c.created, job.c.id) < tuple(found[0]))
    return database.read(query)


def events(database: Database, job_id: str, after: int) -> list[Row]:
    """Return the events of a job with ids above `after`, in order."""
    query = sa.select(event).where(event.c.job == job_id, event.c.id > after).order_by(event.c.id).limit(100)
    return database.read(query)


def counts(database: Database) -> dict[State, tuple[int, float]]:
    """Return the number of live jobs by state, and the age of the oldest one, in seconds."""
    columns: list[sa.ColumnElement[Any]] = [job.c.state, sa.func.count(), sa.func.min(job.c.created)]
    rows = database.read(sa.select(*columns).where(IS_LIVE).group_by(job.c.state))
    found = {state: (int(count), max(0.0, time.time() - oldest)) for state, count, oldest in rows}
    return {state: found.get(state, (0, 0.0)) for state in LIVE}


def overdue(database: Database) -> float:
    """Return by how much the job that waits longest for the reconciler is late, in seconds."""
    earliest = database.read(sa.select(sa.func.min(job.c.due)).where(ACTIVE, job.c.due > 0))[0][0]
    return 0.0 if earliest is None else max(0.0, time.time() - earliest)


def _added(database: Database, connection: sa.Connection, given: list[dict[str, Any]]) -> list[Row]:
    """Add jobs with their first events; return those whose owner has room, and whose key and folder are free."""
    names = tuple(name for name in given[0] if name in job.c)
    rows = list(connection.execute(_insertion(names, is_sqlite=database.is_sqlite), {"given": given}))
    if rows and database.is_sqlite:
        first = [{"job": row.id, "state": row.state, "attempt": row.attempt, "at": row.created} for row in rows]
        connection.execute(_EVENT, first)
    return rows


@functools.cache
def _insertion(names: tuple[str, ...], *, is_sqlite: bool) -> sa.Executable:
    """Return the statement that adds jobs, given as JSON, while there is `room`; to build it takes long.

    With PostgreSQL it adds their events as well, since each statement is a round trip.
    """
    parameter = sa.bindparam("given", type_=sa.JSON)
    columns = [sa.column("room", sa.Integer()), *(sa.column(name, job.c[name].type) for name in names)]
    given: list[sa.ColumnElement[Any]]
    if is_sqlite:
        value = sa.func.json_each(parameter).table_valued("value").c.value
        given = [sa.func.json_extract(value, f"$.{column.name}", type_=column.type) for column in columns]
    else:
        given = [*sa.func.json_to_recordset(parameter).table_valued(*columns).render_derived(with_types=True).c]
    room, *values = given
    owner = values[names.index("owner")]
    live = sa.select(sa.func.count()).where(job.c.owner == owner, IS_LIVE).scalar_subquery()
    dialect = sqlite if is_sqlite else postgresql
    added = dialect.insert(job).from_select(names, sa.select(*values).where(live < room))
    added = added.on_conflict_do_nothing().returning(job)
    if is_sqlite:
        return cast("sa.Executable", added)
    new = added.cte("new")
    first = sa.select(new.c.id, new.c.state, new.c.attempt, new.c.created)
    return sa.select(new).add_cte(_EVENT.from_select(["job", "state", "attempt", "at"], first).cte("first_event"))


def _owned_by(owner: str | None) -> sa.ColumnElement[bool]:
    return sa.true() if owner is None else job.c.owner == owner


def _add_event(connection: sa.Connection, job_id: str, state: str, attempt: int, reason: str) -> None:
    values = {"job": job_id, "state": state, "attempt": attempt, "reason": reason[:500], "at": time.time()}
    connection.execute(_EVENT, values)
