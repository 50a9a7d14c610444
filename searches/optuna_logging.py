"""Optuna's log level, changed for a while and restored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import optuna


@contextmanager
def optuna_verbosity(level: int) -> Iterator[None]:
    """Set Optuna's log level inside this context."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(level)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
