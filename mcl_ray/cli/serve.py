"""The command that runs the service, `python -m mcl_ray.serve`, and the ones that make and revoke its API keys."""

from __future__ import annotations

import contextlib
import getpass
import io
import logging
import os
import signal
import socket
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from pydantic import ValidationError

from api.settings import Settings
from mcl_ray.cli import app
from mcl_ray.errors import SpecError, StoreError

if TYPE_CHECKING:
    from api.local_ray import LocalRay

Options = Annotated[Settings | None, Parameter(name="*")]
DAY_S = 86400.0
STDERR = 2


def serve(*, settings: Options = None) -> None:
    """Run the service: take jobs over HTTP, run them on Ray, and report their results.

    Every option is also an environment variable: `--max-running` is MCL_MAX_RUNNING.
    """
    import uvicorn

    from mcl_ray.results.atomic_io import FolderLock

    settings = settings or _from_environment()
    _configure_logs()
    signal.signal(signal.SIGTERM, _stop)  # uvicorn sends itself the signal again once it has shut down
    with ExitStack() as stack:
        listener = stack.enter_context(_listen(settings))
        if not settings.address:
            settings.state.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FolderLock(settings.state, name=".serve.lock"))
            local = _local_ray(settings)
            stack.callback(local.stop)
            settings = local.settings(settings)
        _print_address(settings, listener.getsockname()[1])
        from api.app import create_app

        config = uvicorn.Config(
            create_app(settings),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=settings.shutdown_s,
        )
        uvicorn.Server(config).run(sockets=[listener])


def create_key(
    *,
    owner: str,
    scopes: tuple[Literal["read", "submit", "admin"], ...] = ("read", "submit"),
    days: Annotated[float | None, Parameter(help="Days until it expires; never if not given.")] = None,
    settings: Options = None,
) -> None:
    """Make an API key, and print it once.

    Args:
        owner: Whose jobs it submits and reads.
        scopes: Scopes that it has; admin sees the jobs of all owners.
    """
    from api import keys
    from api.database import Database

    database = Database((settings or _from_environment()).url_of_database)
    database.migrate()
    app.stdout().print(keys.create(database, owner, scopes, None if days is None else time.time() + days * DAY_S))


def revoke_key(prefix: str, /, *, settings: Options = None) -> None:
    """Revoke an API key.

    Args:
        prefix: The twelve digits after mcl_ in the key.
    """
    from api import keys
    from api.database import Database

    database = Database((settings or _from_environment()).url_of_database)
    database.migrate()
    if not keys.revoke(database, prefix):
        raise StoreError(f"only a key that exists can be revoked, but there is none with the prefix {prefix}")


def program(name: str) -> App:
    """Return `serve` itself, with `create-key` and `revoke-key` below it."""
    made = app.new_app(name)
    made.default(serve)
    made.command(create_key)
    made.command(revoke_key)
    return made


command = program("serve")
"""The application that the console script `mcl` loads."""


def _from_environment() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        parts = [f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors()]
        raise SpecError(f"settings must be valid, but: {'; '.join(parts)}") from None


def _listen(settings: Settings) -> socket.socket:
    """Return the socket of the service; requests wait in it until the application has started."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except OSError as error:
        raise SpecError(f"the service must listen on {settings.host}:{settings.port}, but: {error.strerror}") from error
    return listener


def _local_ray(settings: Settings) -> LocalRay:
    from api.local_ray import LocalRay

    local = LocalRay(settings.state)
    local.start()
    return local


def _print_address(settings: Settings, port: int) -> None:
    """Print where the service is and, of a database without any, a first API key."""
    from api import keys
    from api.database import Database

    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    lines = [f"mcl-ray serves http://{host}:{port}"]
    database = Database(settings.url_of_database)
    database.migrate()
    if not settings.insecure_local and not keys.any_exist(database):
        owner = getpass.getuser()
        lines.append(f"API key of {owner}, shown once: {keys.create(database, owner, keys.SCOPES)}")
    app.stdout().print("\n".join(lines), soft_wrap=True)
    database.close()
    sys.stdout.flush()


def _stop(*_: object) -> None:
    raise SystemExit(0)


class _Stderr(io.StringIO):
    """Standard error for the log; a line that cannot be written, as on a full disk, is dropped and fails nothing."""

    def write(self, text: str) -> int:
        """Write a line."""
        with contextlib.suppress(OSError):
            return os.write(STDERR, text.encode())
        return 0


def _configure_logs() -> None:
    """Write one JSON object a line to stderr."""
    import structlog

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=_Stderr()),
        cache_logger_on_first_use=True,
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
