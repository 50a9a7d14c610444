"""What takes long to make and is only read: made once for all processes that test side by side."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock


def once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Any]) -> tuple[Path, Any]:
    """A folder that `make` has filled, and what it returned of it, as JSON tells it; nobody may write there."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # what the processes of one session share
    folder, said = root / name, root / f"{name}.json"
    with FileLock(root / f"{name}.lock"):
        if not said.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what another process failed to make
            folder.mkdir()
            said.write_text(json.dumps(make(folder)))
    return folder, json.loads(said.read_text())
