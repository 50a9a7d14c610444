"""Levels of loggers, which Ray changes when it starts and does not restore."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_ray_logs() -> Iterator[None]:
    """Silence Ray's loggers, and restore every level on leaving: our errors and records say what failed."""
    levels = {logger: logger.level for logger in _loggers()}
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


def _loggers() -> list[logging.Logger]:
    ray = logging.getLogger("ray")  # listed even if nothing has logged to it yet
    known = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    return [logging.root, ray, *known]
