"""Fixtures that every room uses: the folders of numbers and images that lie beside the checkout."""

from __future__ import annotations

import os
import signal
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded, here and below: tests run side by side

import pytest

pytest_plugins = ["tests.support.data", "tests.support.results"]

# A shell that runs the tests in the background ignores Ctrl-C, and so would every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def _beside(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs {folder}, which lies beside the checkout and is missing here")
    return folder


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Numbers from the published implementation."""
    return _beside("reference")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real images to train on."""
    return _beside("data")
