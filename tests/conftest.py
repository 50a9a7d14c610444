"""Fixtures of all tests: the folders of reference numbers and images beside the checkout."""

from __future__ import annotations

import os
import signal
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded, here and below: tests run side by side

import pytest

pytest_plugins = ["tests.support.data", "tests.support.old_code", "tests.support.results"]

# A shell that runs the tests in the background ignores Ctrl-C, and so would every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def _shared_folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs the folder {folder} beside the checkout, but it is missing")
    return folder


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Folder of numbers from the published implementation."""
    return _shared_folder("reference")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real images to train on."""
    return _shared_folder("data")
