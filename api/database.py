"""The tables of the service, and connections to them: SQLite or PostgreSQL.

Reading and writing have engines of their own: SQLAlchemy's `begin` event fires on AUTOCOMMIT connections too, so that
with one engine every read of SQLite would take the write lock.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mcl_ray.errors import StoreError
from mcl_ray.jobs.states import LIVE

metadata = sa.MetaData()
job = sa.Table(
    "job",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("key", sa.String(128), nullable=False),
    sa.Column("body_hash", sa.String(64), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("label", sa.String(64), nullable=False, server_default=""),
    sa.Column("spec", sa.Text, nullable=False),  # JSON as text: a damaged row fails alone, not its whole page
    sa.Column("parent", sa.String(32)),
    sa.Column("origin", sa.String(32), nullable=False),  # first ancestor, whose folder holds the results
    sa.Column("desired", sa.String(10), nullable=False, server_default="run"),
    sa.Column("state", sa.String(10), nullable=False, server_default="queued"),
    sa.Column("attempt", sa.Integer, nullable=False, server_default="1"),
    sa.Column("lost", sa.Integer, nullable=False, server_default="0"),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Column("due", sa.Float, nullable=False),  # lease, back-off and poll time in one
    sa.Column("rev", sa.Integer, nullable=False, server_default="0"),  # every write is fenced by it
    sa.Column("created", sa.Float, nullable=False),
    sa.UniqueConstraint("owner", "key"),
)
IS_LIVE = job.c.state.in_([sa.literal_column(f"'{state}'") for state in LIVE])
sa.Index("job_due", job.c.due, sqlite_where=IS_LIVE, postgresql_where=IS_LIVE)
sa.Index("job_owner_live", job.c.owner, sqlite_where=IS_LIVE, postgresql_where=IS_LIVE)
sa.Index("job_owner_created", job.c.owner, job.c.created, job.c.id)
sa.Index("job_created", job.c.created, job.c.id)
# A folder of results has one writer.
sa.Index("job_origin_live", job.c.origin, unique=True, sqlite_where=IS_LIVE, postgresql_where=IS_LIVE)

event = sa.Table(
    "event",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("job", sa.String(32), nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Column("at", sa.Float, nullable=False),
    sa.Index("event_job", "job", "id"),
    sqlite_autoincrement=True,  # ids are never used again
)
api_key = sa.Table(
    "api_key",
    metadata,
    sa.Column("prefix", sa.String(16), primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("scopes", sa.String(64), nullable=False),
    sa.Column("expires", sa.Float),
    sa.Column("revoked", sa.Float),
)

MIGRATIONS = Path(__file__).parent / "migrations"
REVISION = max(file.name[:4] for file in (MIGRATIONS / "versions").glob("[0-9]*.py"))
"""Revision of these tables, which the name of a migration begins with."""
SQLITE_PRAGMAS = ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL")


class Database:
    """The two engines of a database."""

    def __init__(self, url: str) -> None:
        self.url = sa.make_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.write_engine = _engine(self.url)
        self.read_engine = _engine(self.url, isolation_level="AUTOCOMMIT")
        if self.is_sqlite:
            sa.event.listen(
                self.write_engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE")
            )

    def migrate(self) -> None:
        """Bring the tables to the revision of this program.

        Raises:
            StoreError: they are of a later one.
        """
        if self.is_sqlite and self.url.database:
            Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
        with self.write_engine.begin() as connection:
            self.lock(connection, "migrate")
            has_tables = sa.inspect(connection).has_table("alembic_version")
            found = connection.scalar(sa.text("SELECT version_num FROM alembic_version")) if has_tables else ""
            if found > REVISION:
                raise StoreError(f"the tables must be of revision {REVISION} or before, but are of {found}")
            if found < REVISION:
                _upgrade(connection)

    def lock(self, connection: sa.Connection, name: str) -> None:
        """Exclude other processes until the transaction ends; a transaction of SQLite that writes always does."""
        if not self.is_sqlite:
            number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:n)"), {"n": number})

    def read(
        self, query: sa.Select[*tuple[Any, ...]], parameters: dict[str, Any] | None = None
    ) -> list[sa.Row[*tuple[Any, ...]]]:
        """Return all rows of a query."""
        with self.read_engine.connect() as connection:
            return list(connection.execute(query, parameters).all())

    def close(self) -> None:
        """Close every connection."""
        self.write_engine.dispose()
        self.read_engine.dispose()


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command  # 10 MB of memory, which a service whose tables are of this revision need not have
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _engine(url: sa.URL, **options: Any) -> sa.Engine:
    if url.get_backend_name() == "sqlite":
        engine = sa.create_engine(url, pool_size=8, max_overflow=32, pool_timeout=10, **options)
        sa.event.listen(engine, "connect", _prepare_sqlite)
        return engine
    timeouts = {"connect_timeout": 5, "options": "-c statement_timeout=20000 -c lock_timeout=20000"}
    return sa.create_engine(url, pool_size=8, max_overflow=8, pool_timeout=10, connect_args=timeouts, **options)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy's hooks begin transactions, not the driver
    for pragma in SQLITE_PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
