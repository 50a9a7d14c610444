"""The environment variables of trials on a local Ray: those that Ray was started with, from this process.

Tune gives the processes of trials some variables of its own. Ray then starts each of them twice, the second time with
these variables, and has no use for the processes that it has started in advance.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ray.tune.execution import class_cache


@contextmanager
def inherited_variables() -> Iterator[None]:
    """Give trials that start in this context no variables beside those that they inherit from the local Ray."""
    own, passed_on = class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE
    class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = {}, set()
    try:
        yield
    finally:
        class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE = own, passed_on
