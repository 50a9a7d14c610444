"""Registries that forget, after a test, the parts that it registers."""

from __future__ import annotations

import pytest

from mcl_ray.config.methods import METHODS
from mcl_ray.config.registry import DATASETS, NETWORKS


@pytest.fixture
def own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registries that forget, after the test, what it registers."""
    for registry in (NETWORKS, DATASETS, METHODS):
        monkeypatch.setattr(registry, "_added", dict(registry._added))
