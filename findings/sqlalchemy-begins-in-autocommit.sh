#!/bin/sh
# SQLAlchemy's event `begin` fires on connections with AUTOCOMMIT, too, on which no transaction begins.
# Versions: SQLAlchemy==2.1.9.
# A good guess: the documented listener that emits BEGIN IMMEDIATE for SQLite concerns transactions, so that reads of an
#   AUTOCOMMIT connection of the same engine stay reads.
# Behaviour: a read of such a connection emits BEGIN IMMEDIATE as well: it waits for the write lock of another connection, and
#   fails while that is held, although SQLite's WAL mode lets readers read.
# Our guard: tests/api/test_database.py::test_reading_does_not_wait_for_a_transaction_that_writes
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check SQLAlchemy==2.1.9
cat > "$folder/program.py" <<'PROGRAM'
import sqlite3

import sqlalchemy as sa

other = sqlite3.connect("x.db", isolation_level=None)
other.execute("PRAGMA journal_mode=WAL")
other.execute("CREATE TABLE t (x)")
engine = sa.create_engine("sqlite:///x.db", connect_args={"timeout": 0})


@sa.event.listens_for(engine, "begin")
def begin(connection):
    print("begin")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def read(connection):
    try:
        return connection.exec_driver_sql("SELECT count(*) FROM t").scalar()
    except sa.exc.OperationalError as error:
        return str(error.orig)


other.execute("BEGIN IMMEDIATE")
print("read by SQLite alone:", sqlite3.connect("x.db").execute("SELECT count(*) FROM t").fetchone()[0])
with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
    print("read by SQLAlchemy:", read(connection))
PROGRAM
cat > "$folder/expected" <<'OUTPUT'
read by SQLite alone: 0
begin
read by SQLAlchemy: database is locked
OUTPUT
(cd "$folder" && env/bin/python program.py) > "$folder/seen"
cat "$folder/seen"
diff "$folder/expected" "$folder/seen" || { echo "the behaviour has changed: see the lines above" >&2; exit 1; }
