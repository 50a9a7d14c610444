"""Checks before a sweep writes anything."""

import os

import pytest

from mcl_ray.errors import StoreError
from mcl_ray.sdk.tuner import CohortTuner


def test_the_path_of_the_results_is_utf_8_also_behind_a_link(tmp_path):
    results = tmp_path / os.fsdecode(b"r\xe9sum\xe9")
    results.mkdir()
    (tmp_path / "link").symlink_to(results)
    for path in (results, tmp_path / "link", results / "deeper"):
        with pytest.raises(StoreError, match=r"require a path in UTF-8, but got .*/r\\xe9sum\\xe9(/deeper)?$"):
            CohortTuner("digits", trials=1, results=path).fit()
    assert list(results.iterdir()) == []
