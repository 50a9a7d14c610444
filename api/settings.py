"""The settings of the service: environment variables `MCL_…`, and options of `python -m mcl_ray.serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mcl_ray.object_store import Uri


class Settings(BaseSettings):
    """Every setting; an option of the command line has precedence over its environment variable."""

    model_config = SettingsConfigDict(env_prefix="MCL_", frozen=True, extra="forbid", use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """Address that the service listens on."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """Port that the service listens on; 0 takes a free one."""
    state: Path = Path("mcl-service")
    """Folder of the local database, the local Ray's files and its token."""
    database_url: str = ""
    """SQLAlchemy URL of the database, as postgresql+psycopg://host/name; if empty, a SQLite file in `state`."""
    results: str = ""
    """Folder, or s3://bucket/prefix, for results, claims and logs; if empty, `results` in `state`. Every node of the
    cluster must see it."""
    data: str = "data"
    """Folder, or s3://bucket/prefix, that holds the data sets."""
    address: str = ""
    """Ray cluster, as the URL of its dashboard, http://head:8265; if empty, a local Ray is started."""
    ray_token_file: Path | None = None
    """File with the token of the Ray cluster; if not given, RAY_AUTH_TOKEN or ~/.ray/auth_token."""
    allow_open_ray: bool = False
    """Accept a Ray that answers without a token: every user who reaches its port can run code."""
    driver: str = "python -m mcl_ray.job"
    """Command of a job's driver on the cluster; with a local Ray, this interpreter."""
    driver_resource: str = ""
    """Custom resource of Ray that drivers ask for, so that they stay off the head; if empty, a fraction of a CPU."""
    plugins: tuple[str, ...] = ()
    """Modules that jobs may name as plugins, with all below them; drivers and workers import them. Those of installed
    distributions need no mention."""
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1")
    """Names that a request may address the service by."""
    insecure_local: bool = False
    """Ask for no API key; only on a loopback address."""
    max_running: Annotated[int, Field(ge=1)] = 4
    """Jobs that are submitted to Ray at a time."""
    max_lost: Annotated[int, Field(ge=1)] = 3
    """Lost attempts that fail a job."""
    max_jobs_per_owner: Annotated[int, Field(ge=1)] = 1000
    """Jobs of one owner that may be queued or running at a time."""
    max_streams_per_owner: Annotated[int, Field(ge=1)] = 100
    """Event streams that one owner may have open on this process at a time."""
    max_body_bytes: Annotated[int, Field(ge=1024)] = 256 * 1024
    """Largest body of a request."""
    body_timeout_s: Annotated[float, Field(gt=0)] = 20.0
    """Time within which the body of a request must arrive, in seconds."""
    commit_timeout_s: Annotated[float, Field(gt=0)] = 25.0
    """Time that a request waits for the database before the answer is 503, in seconds."""
    lease_s: Annotated[float, Field(gt=0)] = 15.0
    """Time after which another process takes over a job of one that died, in seconds."""
    poll_s: Annotated[float, Field(gt=0)] = 1.0
    """Time between two looks at a running job, in seconds."""
    shutdown_s: Annotated[int, Field(ge=1)] = 5
    """Time that open requests and streams have when the service stops, in seconds."""
    no_reconciler: bool = False
    """Only answer requests; at least one process of a database must run the reconciler."""

    @field_validator("database_url")
    @classmethod
    def _uses_a_supported_database(cls, url: str) -> str:
        if url and not url.startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError(
                f"the database must be sqlite:///file or postgresql+psycopg://…, but got {url.partition(':')[0]}:…"
            )
        return url

    @field_validator("address")
    @classmethod
    def _is_the_url_of_a_dashboard(cls, address: str) -> str:
        if address and not address.startswith(("http://", "https://")):
            raise ValueError(f"the dashboard's URL must begin with http:// or https://, but got {address}")
        return address

    @model_validator(mode="after")
    def _insecure_is_loopback(self) -> Settings:
        if self.insecure_local and self.host not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError(f"`insecure_local` requires a loopback address, but got host={self.host}")
        return self

    @property
    def url_of_database(self) -> str:
        """URL of the database in use."""
        return self.database_url or f"sqlite:///{self.state.absolute() / 'mcl.db'}"

    @property
    def results_root(self) -> Uri | Path:
        """Folder or store of the results in use."""
        if "://" in self.results:
            return Uri(self.results)
        return Path(self.results).absolute() if self.results else self.state.absolute() / "results"

    @property
    def data_root(self) -> str:
        """Folder or store of the data sets in use."""
        return self.data if "://" in self.data else str(Path(self.data).absolute())
