"""The database file of a sweep's own study; a damaged one is set aside, as the records of the sweep have it all."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from mcl_ray.results.atomic_io import set_aside

BESIDE = ("-journal", "-wal", "-shm")
"""Suffixes of SQLite's own files beside a database, which belong to it."""


def set_aside_if_damaged(file: Path) -> None:
    """Set a damaged database aside, with a warning; do nothing if there is none, or it cannot be opened.

    Raises:
        StoreError: it cannot be renamed.
    """
    if (damage := _damage(file)) is not None:
        set_aside_study(file, damage)


def set_aside_study(file: Path, damage: str) -> None:
    """Set a database aside, with a warning that says what is wrong with it.

    Raises:
        StoreError: it cannot be renamed.
    """
    set_aside(file, damage, "the study is exported again from the records")
    for suffix in BESIDE:
        file.with_name(file.name + suffix).unlink(missing_ok=True)


def _damage(file: Path) -> str | None:
    """Return what SQLite finds wrong with a database; None if nothing."""
    if not file.exists():
        return None
    try:
        with closing(sqlite3.connect(file)) as database:
            (found,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.OperationalError:  # it is locked, or cannot be opened
        return None
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if found == "ok" else " ".join(str(found).split())
