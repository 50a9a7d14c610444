"""The code of commit c5bbcbf, which wrote results before the folders and names changed, and commands of both codes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from functools import partial
from pathlib import Path

import pytest

from tests.support import forked
from tests.support.once import once
from tests.support.ray_nodes import RayNodes

COMMIT = "c5bbcbf"
ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "fixtures" / COMMIT
TIMEOUT_S = 900


@pytest.fixture(scope="session")
def old_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the packages of the old commit; skips where this checkout has no history."""

    def extract(folder: Path) -> None:
        archive = ["git", "archive", COMMIT, "mcl_ray", "trainables", "searches"]
        content = subprocess.run(archive, cwd=ROOT, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            tar.extractall(folder, filter="data")

    found = subprocess.run(["git", "cat-file", "-e", f"{COMMIT}^{{commit}}"], cwd=ROOT, capture_output=True)
    if found.returncode:
        pytest.skip(f"needs commit {COMMIT}, but this checkout lacks it (a shallow clone?): {found.stderr.decode()}")
    folder, _ = once(tmp_path_factory, "old-code", extract)
    return folder


def environment(code: Path | None) -> dict[str, str]:
    """Variables with which a process imports the packages below `code`; today's packages if None."""
    variables = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "COLUMNS")}
    return variables | {"OMP_NUM_THREADS": "1"} | ({} if code is None else {"PYTHONPATH": str(code)})


def python(cwd: Path, *arguments: str, code: Path | None = None, ray: RayNodes | None = None) -> str:
    """Run a program to its end, on `ray` if it needs one, and return its standard output.

    Today's begins in a forked process, that of the old code in an interpreter of its own.
    """
    variables, run = environment(code), partial(subprocess.run, capture_output=True, text=True, check=False)
    if code is None:
        run = partial(forked.run, modules=forked.TRAINING if ray is None else forked.ON_RAY)
    if ray is not None:
        arguments, variables = (*arguments, "--address", ray.address), variables | ray.variables
    done = run([sys.executable, *arguments], cwd=cwd, env=variables, timeout=TIMEOUT_S)
    assert done.returncode == 0, f"{arguments} failed: {done.stderr}"
    return done.stdout
