"""Fixtures of the results tests: a small sweep with every kind of ending."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_spec = importlib.util.spec_from_file_location("results_synthetic", Path(__file__).with_name("synthetic.py"))
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules["results_synthetic"] = _module
_spec.loader.exec_module(_module)


@pytest.fixture(scope="session")
def sweep_folder(tmp_path_factory) -> Path:
    trials = [
        {"losses.alpha": alpha, "losses.beta": beta, "batch.sampler": "balanced"}
        for alpha in (0.001, 0.01, 0.1, 1.0, 10.0)
        for beta in (0.0, 0.1, 1.0)
    ]
    return _module.write_sweep(tmp_path_factory.mktemp("root"), trials, name="<script>alert(1)</script>", epochs=4)
