"""Registries that forget, after a test, the parts that it registers."""

from __future__ import annotations

import pytest

from mcl_ray.config.loss_terms import LOSS_TERMS
from mcl_ray.config.methods import METHODS
from mcl_ray.config.recipes import RECIPES
from mcl_ray.config.registry import DATASETS, NETWORKS
from searches.spec.samplers import SAMPLERS
from searches.spec.search_registry import SEARCHES


@pytest.fixture
def own_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registries that forget, after the test, what it registers."""
    for registry in (NETWORKS, DATASETS, METHODS, LOSS_TERMS, RECIPES, SEARCHES, SAMPLERS):
        monkeypatch.setattr(registry, "_added", dict(registry._added))
