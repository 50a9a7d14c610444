"""Services of the tests' own: a database of each kind, an application in this process, keys, and a real Ray."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog

from tests.support import ray_worker, ray_worker_server
from tests.support.application import App, running, settings_for
from tests.support.postgres import postgres
from tests.support.s3 import CREDENTIALS
from tests.support.service import CHECKOUT, ServiceProcess, wait_until_ready
from trainables.cluster.local_ray import LocalRay

# Through `logging`, to which pytest listens while a test runs. A service's threads also log between two tests, when
# whatever is written to stderr would be mixed into pytest's own output.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(["event"]),
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
)
logging.getLogger("api").setLevel(logging.INFO)
logging.getLogger("api").addHandler(logging.NullHandler())

SURVIVAL = ("test_campaign", "test_survival", "test_survival_disk", "test_survival_points")
"""Modules whose tests take about half of the time of all that need a Ray."""


@pytest.fixture(scope="package")
def postgres_server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """An empty database."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """An empty database of SQLite."""
    return f"sqlite:///{tmp_path / 'jobs.db'}"


@pytest.fixture
def postgresql_url(postgres_server: str) -> str:
    """An empty database of the PostgreSQL server that all tests share."""
    server, name = sa.make_url(postgres_server), f"t{uuid.uuid4().hex}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    """On SQLite, without a Ray and without a reconciler."""
    yield from running(settings_for(tmp_path, no_reconciler=True))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The same, one for the tests of a module that do not mind each other's jobs."""
    yield from running(settings_for(tmp_path_factory.mktemp("service"), no_reconciler=True))


class ForkingRay(LocalRay):
    """The service's Ray, whose workers are forked as in `tests.support.ray_worker_server`."""

    PROGRAM = (str(CHECKOUT / "tests/support/ray_program.py"),)

    def processes(self) -> set[int]:
        """Return its processes, and the workers that are forked for some of them."""
        found = super().processes()
        return found | {worker for process in found if (worker := ray_worker.worker_of(process))}


@pytest.fixture(scope="package")
def local_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRay]:
    """A real Ray that asks for a token, one for all tests; its drivers may use `tests.support.s3`."""
    with pytest.MonkeyPatch.context() as variables:
        for name, value in (CREDENTIALS | ray_worker_server.variables()).items():
            variables.setenv(name, value)
        ray = ForkingRay(tmp_path_factory.mktemp("ray"))
        ray.start()
        try:
            yield ray
        finally:
            ray.stop()


@pytest.fixture(scope="package")
def ray(local_ray):
    """The Ray, once it can start jobs."""
    wait_until_ready(local_ray)
    return local_ray


@pytest.fixture
def service(tmp_path, database_url, ray):
    with ServiceProcess(tmp_path, database_url, ray) as made:
        made.start()
        yield made


@pytest.fixture
def services(tmp_path, sqlite_url, postgresql_url, ray):
    """One service on each kind of database, both on the same Ray, so that a test that ends the Ray does so once."""
    with contextlib.ExitStack() as stack:
        made = []
        for url in (sqlite_url, postgresql_url):
            folder = tmp_path / url.partition(":")[0]
            folder.mkdir()
            made.append(stack.enter_context(ServiceProcess(folder, url, ray)))
            made[-1].start()
        yield made


@pytest.hookimpl(tryfirst=True)  # before that of tests/conftest.py, which was loaded earlier
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have two processes of pytest-xdist run all tests that need that Ray, each with one of its own; they are slow."""
    for item in items:
        if "local_ray" in getattr(item, "fixturenames", ()):
            group = "survival" if item.path.stem in SURVIVAL else "jobs"
            item.add_marker(pytest.mark.xdist_group(f"the service's Ray: {group}"))
            item.add_marker(pytest.mark.slow)
