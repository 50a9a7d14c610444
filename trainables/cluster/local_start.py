"""The start of a local Ray, in a thread of its own: the thread that waits for it can be interrupted, and sees it fail.

Ray's C++ code holds its thread for a minute if the GCS has ended, and then ends this process; and it may crash if a Ray
that is half connected is shut down, as an interruption in the thread of the start would do.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any, Self

import ray
from ray._private.node import Node

from mcl_ray.errors import ClusterLostError
from trainables.cluster.reaper import Reaper
from trainables.cluster.signals import apart_from_ray
from trainables.cluster.watch import NEEDED, ended_process, local_ray_lost, processes_of

POLL_S = 0.2


class LocalStart:
    """Starts a local Ray, beside the thread that waits for it; its thread stays until the context is left.

    Ray has the kernel kill its processes when the thread ends that started them, not when the process ends.
    """

    def __init__(self, options: Mapping[str, Any], reaper: Reaper) -> None:
        """Prepare the start.

        Args:
            options: Of `ray.init`.
            reaper: Kills the processes of Ray if this one is killed.
        """
        self._options, self._reaper = options, reaper
        self._context: Any = None
        self._error: BaseException | None = None
        self._ended, self._is_over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._start, name="ray-start", daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()

    @property
    def has_ended(self) -> bool:
        """Return whether Ray has started, or failed to; if not, `ray.shutdown` would run beside `ray.init`."""
        return self._ended.is_set()

    def run(self, meanwhile: Callable[[], None]) -> Any:
        """Start Ray, wait, and return what `ray.init` returns, or raise what it raises.

        An interruption, and any error of `meanwhile`, is raised when the start has ended.

        Args:
            meanwhile: Called while Ray starts.

        Raises:
            ClusterLostError: the GCS or the raylet has ended meanwhile. If the start has not, Ray's code waits for it.
        """
        try:
            self._thread.start()
            meanwhile()
            self._wait()
        except ClusterLostError:  # the start may never end
            raise
        except BaseException:
            if self._thread.is_alive():
                self._wait()
            raise
        error, self._error = self._error, None
        if error is None:
            return self._context
        try:
            for node in _nodes(traceback.walk_tb(error.__traceback__)):
                _check(node, NEEDED, error)
            raise error
        finally:
            del error  # it has Ray's clients, which end this process when they have missed their GCS for a minute

    def _wait(self) -> None:
        """Wait for the end of the start, or of what it needs; Ray itself sees a raylet that does not start."""
        while not self._ended.wait(POLL_S):
            if node := ray._private.worker._global_node:
                _check(node, NEEDED)
            elif frame := sys._current_frames().get(self._thread.ident or 0):
                for node in _nodes(traceback.walk_stack(frame)):
                    _check(node, ("gcs_server",))

    def _start(self) -> None:
        try:
            with apart_from_ray(self._reaper):
                self._context = ray.init(**self._options)
        except BaseException as error:  # the waiting thread raises it
            self._error = error
        self._ended.set()
        self._is_over.wait()


def _check(node: Node, needed: Iterable[str], error: BaseException | None = None) -> None:
    if (name := ended_process(processes_of(node), needed)) is not None:
        raise local_ray_lost(name) from error


def end_processes(error: BaseException) -> None:
    """End the processes of the node whose start raised an error: Ray forgets them, and they would stay until we end."""
    for node in _nodes(traceback.walk_tb(error.__traceback__)):
        node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)


def _nodes(frames: Iterable[tuple[FrameType, int]]) -> Iterator[Node]:
    """Yield Ray's own objects of nodes whose methods run in some frames."""
    for frame, _ in frames:
        if isinstance(node := frame.f_locals.get("self"), Node):
            yield node
