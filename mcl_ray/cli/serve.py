"""The command that runs the service, `python -m mcl_ray.serve`; those that make and revoke keys, and migrate tables."""

from __future__ import annotations

import ctypes
import getpass
import io
import logging
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from pydantic import ValidationError

from api.settings import Settings
from mcl_ray.cli import app
from mcl_ray.config import overrides
from mcl_ray.errors import SpecError, StoreError
from mcl_ray.garbage import collect_as_usual

if TYPE_CHECKING:
    import uvicorn
    from structlog.typing import Processor

Options = Annotated[Settings | None, Parameter(name="*")]
DAY_S = 86400.0
STDERR = 2
M_ARENA_MAX = -8
"""Parameter of glibc's `mallopt`."""


def serve(*, settings: Options = None) -> None:
    """Run the service: take jobs over HTTP, run them on Ray, and report their results.

    Every option is also an environment variable: `--max-running` is MCL_MAX_RUNNING.
    """
    settings = settings or _from_environment()
    _share_heap()
    _configure_logs()
    signal.signal(signal.SIGTERM, _stop)  # uvicorn sends itself the signal again once it has shut down
    with ExitStack() as stack:
        listener = stack.enter_context(_listen(settings))
        _migrate_apart(settings)
        if not settings.address:
            settings = stack.enter_context(_local_ray(settings))
        _print_address(settings, listener.getsockname()[1])
        server = http_server(settings)
        collect_as_usual()
        server.run(sockets=[listener])


def http_server(settings: Settings) -> uvicorn.Server:
    """Return the server of an application of these settings."""
    import uvicorn

    from api.app import create_app

    config = uvicorn.Config(
        create_app(settings),
        http="h11",  # limits the size of a request's head, as uvicorn's other parser does not
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_s,
    )
    return uvicorn.Server(config)


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


def migrate(*, settings: Options = None) -> None:
    """Bring the tables to the revision of this program, and end; processes of the version before must have ended."""
    from api.database import REVISION, Database

    database = Database((settings or _from_environment()).url_of_database)
    database.migrate()
    database.close()
    app.stdout().print(f"the tables have revision {REVISION}")


def program(name: str) -> App:
    """Return `serve` itself, with `create-key`, `revoke-key` and `migrate` below it."""
    made = app.new_app(name)
    made.default(serve)
    made.command(migrate)
    made.command(create_key)
    made.command(revoke_key)
    return made


command = program("serve")
"""The application that the console script `mcl` loads."""


def _from_environment() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        raise SpecError(overrides.explained(Settings, error)) from None


def _share_heap() -> None:
    """Have all threads allocate from one heap: each of its own keeps 1 MB or more that it has freed."""
    with suppress(AttributeError):  # not of glibc
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def _listen(settings: Settings) -> socket.socket:
    """Return the socket of the service; requests wait in it until the application has started."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio sets TCP_NODELAY if the protocol is given; without it, answers wait 40 ms for an acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(2048)
    except OSError as error:
        raise SpecError(f"the service must listen on {settings.host}:{settings.port}, but: {error.strerror}") from error
    return listener


def _migrate_apart(settings: Settings) -> None:
    """Migrate the tables in a process of its own: Alembic takes 10 MB of memory that this one would keep.

    An error is left to the first use of the database, which finds it again.
    """

    def migrate() -> None:
        with suppress(Exception):
            Database(settings.url_of_database).migrate()

    from api.database import Database

    process = multiprocessing.get_context("fork").Process(target=migrate)  # no thread has been started yet
    process.start()
    process.join()


@contextmanager
def _local_ray(settings: Settings) -> Iterator[Settings]:
    """Run a Ray of the service's own, and yield the settings with it; at the end, nothing of it runs."""
    from mcl_ray.results.atomic_io import FolderLock
    from trainables.cluster.local_ray import DRIVER_RESOURCE, LocalRay

    settings.state.mkdir(parents=True, exist_ok=True)
    with FolderLock(settings.state, name=".serve.lock"):
        local = LocalRay(settings.state)
        try:
            local.start()
            ray = {"address": local.url, "ray_token_file": local.token_file, "driver_resource": DRIVER_RESOURCE}
            yield settings.model_copy(update=ray | {"driver": f"{sys.executable} -m mcl_ray.job"})
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # another one would leave processes behind; this end is bounded
            local.stop()


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
        with suppress(OSError):
            return os.write(STDERR, text.encode())
        return 0


def _configure_logs() -> None:
    """Write one JSON object a line to stderr, also for what libraries log."""
    import structlog

    added: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    errors = _Stderr()
    rendered: list[Processor] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[*added, *rendered],
        logger_factory=structlog.WriteLoggerFactory(file=errors),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter
    handler = logging.StreamHandler(errors)
    handler.setFormatter(formatter(processors=[formatter.remove_processors_meta, *rendered], foreign_pre_chain=added))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for library in ("httpx", "alembic"):
        logging.getLogger(library).setLevel(logging.WARNING)
