"""An interpreter that cannot import this project, for the code of those who load what it exports."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.commands import HANGS_AFTER_S, surroundings

# Reads [code, folder, arguments] line by line, and answers each with [what the code printed, its traceback].
_RUNS = """
import contextlib, io, json, os, sys, traceback
for name in ("mcl_ray", "trainables", "searches", *sys.argv[1:]):
    sys.modules[name] = None
for line in sys.stdin:
    code, folder, sys.argv[1:] = json.loads(line)
    os.chdir(folder)
    error = None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            exec(code, {"__name__": "__main__", "sys": sys})
        except Exception:
            error = traceback.format_exc()
    print(json.dumps([printed.getvalue(), error]), flush=True)
"""


class WithoutProject:
    """A process that runs code, one piece after the other: torch is imported once."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, folder: Path, code: str, *arguments: str) -> str:
        """Run code in a folder, in a namespace of its own, and return what it prints; it fails where it warns."""
        hangs = threading.Timer(HANGS_AFTER_S, self._process.kill)
        hangs.start()
        try:
            self._process.stdin.write(json.dumps([code, str(folder), arguments]) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        finally:
            hangs.cancel()
        assert answer, "the process ended"
        printed, error = json.loads(answer)
        assert error is None, error
        return str(printed)


@contextmanager
def without_project(*blocked: str) -> Iterator[WithoutProject]:
    """Start one that can import neither this project nor the packages in `blocked`."""
    with subprocess.Popen(
        [sys.executable, "-P", "-W", "error", "-c", _RUNS, *blocked],
        env=surroundings(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield WithoutProject(process)
        finally:
            process.kill()
