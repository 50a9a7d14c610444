"""A Ray that is shared by tests that neither kill it nor test its start, as to start one costs as much as a sweep."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.ray_nodes import RayNodes


@pytest.fixture(scope="session")
def shared_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayNodes]:
    """One node of two CPU cores, for the drivers of this process of the tests, one after the other."""
    with RayNodes(1, tmp_path_factory.mktemp("ray"), head_cpus=2) as nodes:
        yield nodes
