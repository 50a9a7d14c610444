"""Groups of tests: each runs in one process, as pytest-xdist promises and as shared fixtures need."""

import os
import subprocess
import sys

import pytest

GROUP = """
import os, pathlib, pytest

@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(12))
def test_one_of_a_group(number):
    pathlib.Path("workers", os.environ["PYTEST_XDIST_WORKER"]).touch()
"""


@pytest.mark.slow
def test_the_tests_of_a_group_run_in_one_process(tmp_path):
    """Not so with pytest-xdist 3.8 and pytest 9.2: findings/xdist-groups-fall-apart-with-pytest-9.2.sh."""
    (tmp_path / "workers").mkdir()
    (tmp_path / "test_group.py").write_text(GROUP)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "3", "--dist=loadgroup"]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert "12 passed" in done.stdout, done.stdout + done.stderr
    assert len(list((tmp_path / "workers").iterdir())) == 1
