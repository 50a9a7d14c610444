"""Ports for servers of the tests' own."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

BELOW_WHAT_THE_SYSTEM_GIVES = range(20_000, 32_000)
"""Linux gives ports from 32,768 on to those who ask for any, so that nobody takes one of these by chance."""


def free_port() -> int:
    """One on which nothing listens, and which nobody but another caller of this takes by chance."""
    while True:
        port = random.SystemRandom().choice(BELOW_WHAT_THE_SYSTEM_GIVES)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
