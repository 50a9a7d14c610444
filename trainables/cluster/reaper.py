"""The reaper of a local Ray: a process that kills what is left of it, once the process that started it was killed."""

from __future__ import annotations

import os
import subprocess
from types import TracebackType
from typing import Self

SCRIPT = """
sessions=' '
while read -r session; do sessions="$sessions$session "; done
for stat in /proc/[0-9]*/stat; do
    read -r line < "$stat" || continue
    set -- ${line%% *} ${line##*) }  # process, state, parent, group, session
    case "$sessions" in *" $5 "*) kill -s KILL "$1";; esac
done
"""
"""Shell script that collects sessions until its input ends, and then kills their processes."""


class Reaper:
    """Kills the processes of a local Ray in `reap`, or when this process ends inside the context.

    Ray's own processes end with this one or soon after, but its agents look for their GCS for up to a minute, and
    workers that just start look for their raylet for half of one. The reaper starts before Ray: the input of its script
    ends when the last process closes it that was forked and is not yet one of Ray's, so that no process of Ray is
    missed, however early this one is killed.
    """

    def __init__(self) -> None:
        """Start the process; it inherits the signals that are blocked here, as a SIGTERM may go to every process."""
        self._process = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", SCRIPT],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._input = self._process.stdin.fileno()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def add_own_session(self) -> None:
        """Add the session of the calling process, which was forked from the one that has the reaper."""
        os.write(self._input, f"{os.getsid(0)}\n".encode())

    def reap(self) -> None:
        """Kill what is left of the sessions."""
        self._process.communicate()
