"""A PostgreSQL server of the tests' own, with its files in a new folder, on a free port."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.commands import HANGS_AFTER_S
from tests.support.ports import free_port


def programs() -> Path:
    """The folder of PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(shutil.which("initdb") or "")]
    if not found[-1].name:
        pytest.skip("needs a PostgreSQL server's programs (Debian: postgresql), which are missing here")
    return found[-1].parent


@contextmanager
def postgres(*, fsync: str = "off") -> Iterator[str]:
    """The URL of its database, as SQLAlchemy has it; with `fsync` on, what is committed survives a power failure."""
    folder, port = Path(tempfile.mkdtemp(prefix="mcl-postgres-")), free_port()
    user = _whoever_may(folder)

    def call(name: str, *arguments: str) -> None:
        program = [str(programs() / name), "-D", str(folder / "data"), *arguments]
        subprocess.run(program, user=user, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    try:
        call("initdb", "-A", "trust", "-U", "mcl", "--no-sync")
        options = f"-p {port} -k {folder} -c fsync={fsync}"
        call("pg_ctl", "-w", "-t", str(HANGS_AFTER_S), "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://mcl@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "-m", "immediate", "-t", str(HANGS_AFTER_S), "stop")
    finally:
        shutil.rmtree(folder)


def _whoever_may(folder: Path) -> str | None:
    """The server refuses to run as root; then the account that Debian makes for it has the folder."""
    if os.geteuid() != 0:
        return None
    account = pwd.getpwnam("postgres")
    os.chown(folder, account.pw_uid, account.pw_gid)
    return account.pw_name
