"""The command `monitor`: the Optuna dashboard of a sweep, on this machine."""

from __future__ import annotations

from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Annotated
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from cyclopts import Parameter

from mcl_ray.cli import app
from mcl_ray.config.environment import Environment
from mcl_ray.errors import SpecError, StoreError

STUDY = "study.db"


class _Server(ThreadingMixIn, WSGIServer):
    """A server whose threads end with the process."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    """A handler that logs no requests."""

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def monitor(
    sweep: str = "latest",
    /,
    *,
    results: Path = Environment.results,
    port: Annotated[int, Parameter(help="Port on the loopback interface; 0 takes a free one.")] = 8081,
) -> None:
    """Serve the Optuna dashboard of a sweep until Ctrl-C, also while the sweep runs; its database is only read.

    Args:
        sweep: The id of a sweep, or `latest`.
        results: The results folder.
    """
    from mcl_ray.results.store import find_sweep

    study = find_sweep(results, sweep).absolute() / STUDY
    if not study.is_file():
        raise StoreError(f"a dashboard requires the study that a sweep exports, but there is no {study}")
    import optuna_dashboard
    from optuna.storages import RDBStorage

    url = f"sqlite:///file:{study}?mode=ro&uri=true"
    storage = RDBStorage(url, skip_compatibility_check=True, skip_table_creation=True)
    try:
        server = make_server("127.0.0.1", port, optuna_dashboard.wsgi(storage), _Server, _Quiet)
    except (OSError, OverflowError) as error:
        raise SpecError(f"`port` must be one that is free, but got {port}: {error}") from error
    with server:
        app.stdout().print(f"Optuna dashboard of {study.parent.name}: http://127.0.0.1:{server.server_port}/dashboard/")
        server.serve_forever()
