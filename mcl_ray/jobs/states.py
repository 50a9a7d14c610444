"""States of a job."""

from __future__ import annotations

from typing import Literal

State = Literal["queued", "starting", "running", "succeeded", "failed", "cancelled"]
Desired = Literal["run", "cancelled"]
LIVE: tuple[State, ...] = ("queued", "starting", "running")
TERMINAL: tuple[State, ...] = ("succeeded", "failed", "cancelled")

EXIT_FENCED = 75
"""Exit code of a driver that finds its attempt claimed."""
