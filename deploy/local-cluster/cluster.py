"""The cluster that deploy/kubernetes describes, on nodes of this machine; options and settings come from its files."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import yaml
from nodes import SHARED, ClusterError, Node, call, make_network

from mcl_ray.client import Client, ServiceError

KUBERNETES = Path(__file__).resolve().parents[1] / "kubernetes" / "base"
ALERTS = Path(__file__).resolve().parents[1] / "monitoring" / "alerts.yaml"
HEAD, DRIVERS, POSTGRES, PROMETHEUS = "mcl-head-svc", "mcl-drivers", "mcl-postgres", "mcl-prometheus"
"""Names of nodes; the first and the third are those that the manifests address."""
WORKERS, APIS = ("mcl-worker-0", "mcl-worker-1"), ("mcl-api-0", "mcl-api-1")
GROUPS = {HEAD: "head", DRIVERS: "drivers"} | dict.fromkeys(WORKERS, "workers")
METRICS_PORT, API_PORT = 8080, 8080
HANGS_AFTER_S = 1800.0
"""Time after which what is waited for counts as failed."""
T = TypeVar("T")


def wait_for(what: str, condition: Callable[[], T]) -> T:
    """Return the first result of `condition` that counts as true; a server that does not answer is asked again.

    Raises:
        ClusterError: there was none.
    """
    ends = time.monotonic() + HANGS_AFTER_S
    while time.monotonic() < ends:
        with contextlib.suppress(httpx.HTTPError, ServiceError, ClusterError):
            if found := condition():
                return found
        time.sleep(0.3)
    raise ClusterError(f"{what} must happen within {HANGS_AFTER_S:.0f} s, but it has not")


def api_settings() -> dict[str, str]:
    """Return the variables of the API that the base has in its ConfigMap."""
    generators = _documents("kustomization.yaml")[0]["configMapGenerator"]
    (literals,) = (generator["literals"] for generator in generators if generator["name"] == "mcl-api")
    return dict(literal.split("=", 1) for literal in literals)


def ray_options() -> dict[str, str]:
    """Return the options of `ray start`, for a shell, by group of nodes, as KubeRay passes `rayStartParams`."""
    (cluster,) = (document["spec"] for document in _documents("ray.yaml") if document["kind"] == "RayCluster")
    groups = {"head": cluster["headGroupSpec"]}
    groups |= {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    own = {"workers": {"num-cpus": "1"}}  # KubeRay takes the number from the container's limits
    return {
        name: " ".join(f"--{key}={value}" for key, value in (own.get(name, {}) | group["rayStartParams"]).items())
        for name, group in groups.items()
    }


def _documents(name: str) -> list[Any]:
    return list(yaml.safe_load_all((KUBERNETES / name).read_text("utf-8")))


class Cluster:
    """A Ray head with a token, a node for drivers, two workers, PostgreSQL, two API processes, and Prometheus."""

    def __init__(self, folder: Path) -> None:
        self._addresses = make_network(folder, (*GROUPS, POSTGRES, *APIS, PROMETHEUS))
        self._token, self._password = secrets.token_hex(32), secrets.token_hex(16)
        self._store = {"MCL_RESULTS": str(SHARED / "results"), "MCL_DATA": str(SHARED / "data")}
        (SHARED / "token").write_text(self._token)
        self._database = self._node(POSTGRES, _postgres_command(self._password), {})
        ray = {name: self._ray_node(name, group) for name, group in GROUPS.items()}
        self.head, self._drivers, self.workers = ray[HEAD], ray[DRIVERS], [ray[name] for name in WORKERS]
        self.apis = [self._api_node(name) for name in APIS]
        optional = [self._node(PROMETHEUS, _prometheus_command(), {})] if shutil.which("prometheus") else []
        self.nodes = [self._database, *ray.values(), *self.apis, *optional]
        self._key = ""

    def start(self) -> None:
        """Start all nodes, and return once they have joined; from then on, one that has ended is started again."""
        self._database.start()
        serve = (sys.executable, "-m", "mcl_ray.serve")
        database = f"--database-url={self._database_url}"
        wait_for("the migration", lambda: call(*serve, "migrate", database))
        scopes = [f"--scopes={scope}" for scope in ("read", "submit", "admin")]
        self._key = call(*serve, "create-key", "--owner=ada", *scopes, database).strip()
        (SHARED / "key").write_text(self._key)
        for node in self.nodes[1:]:
            node.start()
        threading.Thread(target=self._start_those_that_end, daemon=True).start()
        for api in self.apis:
            wait_for(f"{api.name} is ready", lambda api=api: self.is_ready(api))
        wait_for("all nodes join Ray", lambda: self._joined() == len(GROUPS))

    def client(self, api: Node) -> Client:
        """Return a client of one process of the API."""
        return Client(f"http://{api.address}:{API_PORT}", key=self._key)

    def is_ready(self, api: Node) -> bool:
        """Return whether a process of the API accepts jobs."""
        return httpx.get(f"http://{api.address}:{API_PORT}/readyz", timeout=10).is_success

    def targets(self) -> dict[str, str]:
        """Return the health of each address that Prometheus asks; empty where it is not installed."""
        if PROMETHEUS not in (node.name for node in self.nodes):
            return {}
        found = httpx.get(f"http://{PROMETHEUS}:9090/api/v1/targets", timeout=10).raise_for_status().json()
        return {target["labels"]["instance"]: target["health"] for target in found["data"]["activeTargets"]}

    @property
    def _database_url(self) -> str:
        return f"postgresql+psycopg://mcl:{self._password}@{POSTGRES}:5432/postgres"

    def _node(self, name: str, command: str, variables: dict[str, str]) -> Node:
        return Node(name, self._addresses[name], command, variables)

    def _ray_node(self, name: str, group: str) -> Node:
        """Return a node of Ray; its monitor of memory is off, as all nodes share that of this machine."""
        place = "--head --port=6379 --dashboard-port=8265" if group == "head" else f"--address={HEAD}:6379"
        words = f"{place} --node-ip-address={self._addresses[name]} --metrics-export-port={METRICS_PORT}"
        program = Path(sys.executable).with_name("ray")
        command = f"{program} start --block {words} --object-store-memory=100000000 {ray_options()[group]}"
        variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(SHARED / "token")}
        variables |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_memory_monitor_refresh_ms": "0"}
        return self._node(name, command, variables | self._store)

    def _api_node(self, name: str) -> Node:
        own = {
            "MCL_RAY_TOKEN_FILE": str(SHARED / "token"),
            "MCL_DATABASE_URL": self._database_url,
            "MCL_DRIVER": f"{sys.executable} -m mcl_ray.job",
            "MCL_HOSTS": json.dumps([name, self._addresses[name]]),
        }
        return self._node(name, f"{sys.executable} -m mcl_ray.serve", api_settings() | self._store | own)

    def _joined(self) -> int:
        """Return the number of nodes that Ray counts as alive."""
        url, headers = f"http://{HEAD}:8265/nodes?view=summary", {"Authorization": f"Bearer {self._token}"}
        nodes = httpx.get(url, headers=headers, timeout=10).raise_for_status().json()["data"]["summary"]
        return sum(node["raylet"].get("state") == "ALIVE" for node in nodes)

    def _start_those_that_end(self) -> None:
        while True:
            for node in self.nodes:
                if not node.runs:
                    node.start()
            time.sleep(2.0)


def _postgres_command(password: str) -> str:
    """Make the files of PostgreSQL, and return the command of its server."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        raise ClusterError("PostgreSQL must be installed (Debian: postgresql), but /usr/lib/postgresql has no program")
    folder = SHARED / "postgres"
    folder.mkdir()
    (folder / "password").write_text(password)
    for path in (folder, folder / "password"):
        shutil.chown(path, "postgres", "postgres")
    as_postgres = "setpriv --reuid=postgres --regid=postgres --clear-groups"
    options = f"--username=mcl --auth=scram-sha-256 --pwfile={folder}/password"
    call(*f"{as_postgres} {programs[-1]}/initdb --pgdata={folder}/data {options}".split())
    with (folder / "data" / "pg_hba.conf").open("a") as rules:
        rules.write("host all mcl samenet scram-sha-256\n")
    listening = "-c listen_addresses=* -c unix_socket_directories="
    return f"{as_postgres} {programs[-1]}/postgres -D {folder}/data {listening}"


def _prometheus_command() -> str:
    """Write the configuration of Prometheus, with the alerts of deploy/monitoring, and return its command."""
    asked = {"mcl-api": APIS, "ray": tuple(GROUPS)}
    jobs: list[dict[str, Any]] = [
        {"job_name": job, "static_configs": [{"targets": [f"{name}:{METRICS_PORT}" for name in names]}]}
        for job, names in asked.items()
    ]
    jobs[0]["authorization"] = {"credentials_file": str(SHARED / "key")}
    written = {"global": {"scrape_interval": "5s"}, "scrape_configs": jobs, "rule_files": [str(ALERTS)]}
    (SHARED / "prometheus.yml").write_text(yaml.safe_dump(written))
    return f"prometheus --config.file={SHARED}/prometheus.yml --storage.tsdb.path={SHARED}/prometheus"
