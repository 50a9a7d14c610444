"""The connection of this process to a Ray: a local one that it starts, or a cluster; and what fits on its nodes."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import ray

from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.data.encoded import printable
from mcl_ray.errors import ClusterLostError, SpecError, TrainingError, UserError
from trainables.cluster.address import check_cluster
from trainables.cluster.local_start import LocalStart, end_processes
from trainables.cluster.log_levels import quiet_ray_logs
from trainables.cluster.reaper import Reaper
from trainables.cluster.signals import apart_from_ray, restore_signal_handlers
from trainables.cluster.token import ensure_token
from trainables.cluster.watch import RayWatch, watch_cluster, watch_local_ray

OBJECT_STORE_BYTES = 200_000_000
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
"""Options of `ray.init`, of a local Ray and a cluster."""

START_ATTEMPTS = 6
START_TIMEOUT_SIGN = "timed out during startup"
"""The words of Ray's error for a local Ray that does not start within its limit."""

SOCKET_SIGN = "AF_UNIX path length"
"""The words of Ray's error for sockets in a folder with a long path."""

_log = logging.getLogger(__name__)


def ignore_status(message: str) -> None:
    """Ignore a status message."""


def do_nothing() -> None:
    """Do nothing."""


@contextmanager
def connect(
    execution: ExecutionOptions,
    on_status: Callable[[str], None] = ignore_status,
    meanwhile: Callable[[], None] = do_nothing,
    preloaded: Sequence[str] = (),
) -> Iterator[None]:
    """Connect this process as a driver to the Ray that the options name; without an address, to a local one.

    A process has one connection. If it is connected already, by its user or by another thread, that connection is used
    and stays open; a connection that was opened here is closed, and a local Ray shut down, when its last user leaves.
    Signal handlers and log levels are restored on leaving.

    Args:
        execution: The cluster's address, or options of the local Ray.
        on_status: Receives the address of the Ray dashboard.
        meanwhile: Called while a local Ray starts, such as to import what the caller needs next.
        preloaded: Modules that every worker of a local Ray imports when it starts.

    Raises:
        UserError: no Ray of this version answers at the address, or it does not accept this machine or its token; or
            this process is connected to another Ray.
        TrainingError: a local Ray did not start in time, at several attempts.
        ClusterLostError: its raylet or its GCS ended, or the head of the cluster, which may be away for a while.
    """
    with restore_signal_handlers():
        dashboard = _connection.acquire(execution, meanwhile, preloaded)
        try:
            if dashboard:
                on_status(f"Ray dashboard: http://{dashboard}")
            yield
        except BaseException as error:
            if (lost := loss_behind(error)) is not None:
                raise lost from error
            raise
        finally:
            _connection.release()


class _Connection:
    """The process's one connection, counted by its users: threads that call `connect`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._on_last_release = ExitStack()
        self._watch: RayWatch | None = None
        self.has_started_ray = False
        """Whether the connection is to a local Ray that was started here, and not by the user of this process."""

    @property
    def is_lost(self) -> bool:
        """Whether Ray has ended, so that nothing answers any more."""
        return self._watch is not None and self._watch.lost is not None

    def loss_behind(self, error: BaseException) -> ClusterLostError | None:
        """Return the error of a Ray that has ended, a local one's rest included; None if `error` has another reason."""
        if isinstance(error, ClusterLostError) or self._watch is None or not self._watch.explains(error):
            return None
        self._watch.end_rest()  # workers would go on, and hold the folders of their runs
        return self._watch.error()

    def acquire(
        self, execution: ExecutionOptions, meanwhile: Callable[[], None], preloaded: Sequence[str]
    ) -> str | None:
        """Connect unless this process is connected; return the dashboard's address of a new connection, if any."""
        with self._lock, ExitStack() as opened:
            dashboard = None
            if self._users == 0:
                opened.enter_context(quiet_ray_logs())
            if not ray.is_initialized():
                dashboard = _initialise(execution, opened, meanwhile, preloaded)
                self._watch = watch_local_ray() if execution.address is None else watch_cluster()
                self.has_started_ray = execution.address is None
                opened.callback(self._disconnect)
            elif execution.address is not None:
                _check_same_cluster(check_cluster(execution.address))
            self._users += 1
            self._on_last_release.push(opened.pop_all())
            return dashboard

    def _disconnect(self) -> None:
        watch, self._watch = self._watch, None
        self.has_started_ray = False
        if watch is not None:
            watch.stop()
            if watch.lost is not None:
                watch.end_rest()  # Ray's own end would wait for what has died
                return
        _shut_down()

    def release(self) -> None:
        """Close the connection if it was opened here and this was its last user."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._on_last_release.close()


_connection = _Connection()


def is_lost() -> bool:
    """Return whether the Ray of this process has ended: then a call to it would wait for a minute."""
    return _connection.is_lost


def has_started_ray() -> bool:
    """Return whether this process has started its Ray itself, so that workers have the environment of this process."""
    return _connection.has_started_ray


def loss_behind(error: BaseException) -> ClusterLostError | None:
    """Return the error by which work ends whose Ray has ended; None if `error` has another reason."""
    return _connection.loss_behind(error)


def _initialise(
    execution: ExecutionOptions, opened: ExitStack, meanwhile: Callable[[], None], preloaded: Sequence[str]
) -> str | None:
    """Start or join the Ray that the options name, and return the address of its dashboard, if it has one.

    Args:
        execution: The cluster's address, or options of the local Ray.
        opened: Context in which a local Ray has its reaper.
        meanwhile: Called while a local Ray starts.
        preloaded: Modules that its workers import.
    """
    _check_command()
    if execution.address is None:
        ensure_token()
        options: dict[str, Any] = {
            "address": "local",  # never another user's Ray that runs on this machine
            "include_dashboard": not execution.no_dashboard,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_system_config": {"preload_python_modules": list(preloaded)},
        }
    else:
        options = {"address": check_cluster(execution.address)}
    try:
        context = _start_local(options, opened, meanwhile) if execution.address is None else _join(options)
    except (RuntimeError, ConnectionError) as error:  # another Python than the cluster's, for example
        if execution.address is None:
            raise
        raise UserError(
            f"this process must be able to join the Ray cluster at {execution.address}, but: {error}"
        ) from error
    return str(context.dashboard_url) if context.dashboard_url else None


def _check_command() -> None:
    """Check that this process was started by words in UTF-8: Ray records them, and cannot start with any other.

    Raises:
        UserError: one of them is not in UTF-8, as a path may be.
    """
    for word in sys.orig_argv:
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f"Ray requires a command in UTF-8, but got {printable(word)}; a path may be that of a link to it"
            ) from error


def _join(options: Mapping[str, Any]) -> Any:
    with apart_from_ray():
        return ray.init(**options, **QUIET)


def _shut_down() -> None:
    with apart_from_ray():
        ray.shutdown()


def _start_local(options: dict[str, Any], opened: ExitStack, meanwhile: Callable[[], None]) -> Any:
    """Start a local Ray, several times if it needs longer than Ray's fixed limit of 30 s, as on an overloaded machine.

    Args:
        options: Of `ray.init`.
        opened: Context in which Ray has its reaper.
        meanwhile: Called while Ray starts.

    Raises:
        UserError: the folder for temporary files has too long a path.
        TrainingError: it did not start within the limit at any attempt.
        ClusterLostError: one of its processes ended while it started.
    """
    for attempt in range(1, START_ATTEMPTS + 1):
        with ExitStack() as attempted:
            reaper = attempted.enter_context(Reaper())
            start = attempted.enter_context(LocalStart(options | QUIET, reaper))
            try:
                context = start.run(meanwhile)
            except BaseException as error:  # KeyboardInterrupt, too; Ray raises a plain Exception
                if start.has_ended:
                    _shut_down()
                    end_processes(error)
                reaper.reap()
                if SOCKET_SIGN in str(error):
                    raise UserError(
                        "the path of Ray's sockets must be short, and is below RAY_TMPDIR, else TMPDIR, else /tmp, "
                        f"but: {error}; RAY_TMPDIR=/tmp makes it short"
                    ) from error
                is_tried_again = START_TIMEOUT_SIGN in str(error) or isinstance(error, ClusterLostError)
                if not (is_tried_again and start.has_ended):
                    raise
            else:
                opened.push(attempted.pop_all())
                return context
        _log.warning("a local Ray did not start within Ray's limit of 30 s: attempt %d of %d", attempt, START_ATTEMPTS)
    raise TrainingError(f"a local Ray must start within 30 s, but did not in {START_ATTEMPTS} attempts")


def _check_same_cluster(address: str) -> None:
    connected = ray.get_runtime_context().gcs_address
    if connected != address:
        raise UserError(
            f"a process is connected to one Ray cluster at a time, but it is connected to {connected}, and the address "
            f"is {address}"
        )


def bundle(execution: ExecutionOptions) -> dict[str, float]:
    """Return the resources that Ray reserves on one node for a worker, or for a trial without workers.

    GPUs if `gpus_per_worker` is not given: one if a node has any or the device is cuda, none if the device is cpu.
    """
    gpus = execution.gpus_per_worker
    if gpus is None:
        found = max((node.get("GPU", 0.0) for node in _nodes()), default=0.0)
        gpus = 1.0 if execution.device == "cuda" else min(1.0, found)
    return {"CPU": execution.cpus_per_worker, "GPU": 0.0 if execution.device == "cpu" else gpus}


def fits(needed: Mapping[str, float], fewest: int = 1, most: int = 1) -> int:
    """Return how many trials fit on the nodes at once, each with `most` workers; a worker runs on one node.

    Args:
        needed: Resources that a worker reserves.
        fewest: Smallest number of workers of a trial.
        most: Largest number of workers of a trial.

    Raises:
        SpecError: not one fits, so that it would wait for ever.
    """
    bundles = fitting(needed)
    if bundles < fewest:
        if not bundles:
            raise SpecError(f"a worker must fit on one node, but {described(needed)}")
        raise SpecError(f"{fewest} workers must fit on the nodes, but {described(needed)}: {bundles} fit")
    return max(1, bundles // max(fewest, most))


def fitting(needed: Mapping[str, float]) -> int:
    """Return how many workers fit on the nodes as they are now, if nothing else ran on them."""
    wanted = {name: amount for name, amount in needed.items() if amount}
    return sum(min(_times(node.get(name, 0.0), amount) for name, amount in wanted.items()) for node in _nodes())


def described(needed: Mapping[str, float]) -> str:
    """Describe what a worker needs and what the nodes have; the text does not depend on the order of the nodes."""
    amounts = sorted((node.get("GPU", 0), node.get("CPU", 0)) for node in _nodes())
    have = "; ".join(f"{cpus:g} CPU cores and {gpus:g} GPUs" for gpus, cpus in reversed(amounts))
    return f"each needs {needed['CPU']:g} CPU cores and {needed.get('GPU', 0):g} GPUs, and the nodes have {have}"


def _times(amount: float, needed: float) -> int:
    """Return how often an amount fits; fractions of a GPU never span two GPUs."""
    if 0 < needed < 1:
        return int(amount) * int(1 / needed + 1e-6) if float(amount).is_integer() else int(amount / needed + 1e-6)
    return int(amount / needed + 1e-6)


def alive_nodes() -> list[dict[str, Any]]:
    """Return the active nodes of the Ray that this process is connected to, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]  # Ray leaves it untyped


def _nodes() -> list[dict[str, Any]]:
    return [dict(node["Resources"]) for node in alive_nodes()]
