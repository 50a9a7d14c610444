"""Fixture of the results tests: a small sweep with runs in every state."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.synthetic import write_sweep


@pytest.fixture(scope="session")
def sweep_folder(tmp_path_factory) -> Path:
    trials = [
        {"losses.alpha": alpha, "losses.beta": beta, "batch.sampler": "balanced"}
        for alpha in (0.001, 0.01, 0.1, 1.0, 10.0)
        for beta in (0.0, 0.1, 1.0)
    ]
    return write_sweep(tmp_path_factory.mktemp("root"), trials, name="<script>alert(1)</script>", epochs=4)
