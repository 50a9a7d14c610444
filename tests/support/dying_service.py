"""A service that kills itself at one moment: just before or just after one of its commits or one of its calls of Ray.

Usage: dying_service.py before|after insert|claim|record|look|submit|stop OPTIONS-OF-SERVE…
"""

import os
import signal
import sys
from typing import Any

from sqlalchemy.engine.default import DefaultDialect

from api import jobs
from api.ray_jobs import RayJobs
from mcl_ray.cli.serve import command

COMMITS = {"insert": "Insertion", "claim": "claim_due", "record": "record"}
WHEN, POINT, *OPTIONS = sys.argv[1:]
is_next_commit = False


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interpose_on_commit(name: str) -> None:
    """Die at the commit of the first transaction in which the write has changed something."""
    make, commit = getattr(jobs, name), DefaultDialect.do_commit

    def marked(*arguments: Any, **options: Any) -> Any:
        write = make(*arguments, **options)

        def run(connection: Any) -> Any:
            global is_next_commit
            result = write(connection)
            is_next_commit |= bool(result)
            return result

        return run

    def do_commit(dialect: Any, connection: Any) -> None:
        if is_next_commit and WHEN == "before":
            die()
        commit(dialect, connection)
        if is_next_commit:
            die()

    setattr(jobs, name, marked)
    DefaultDialect.do_commit = do_commit  # type: ignore[method-assign]


def interpose_on_ray(name: str) -> None:
    """Die at the first call."""
    call = getattr(RayJobs, name)

    async def dies(*arguments: Any) -> Any:
        if WHEN == "before":
            die()
        await call(*arguments)
        die()

    setattr(RayJobs, name, dies)


if POINT in COMMITS:
    interpose_on_commit(COMMITS[POINT])
else:
    interpose_on_ray(POINT)
command(OPTIONS)
