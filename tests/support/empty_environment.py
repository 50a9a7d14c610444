"""Commands in a fresh process with an empty environment: what a user's shell happens to set must not matter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.ray_nodes import RayNodes

ROOT = Path(__file__).resolve().parents[2]
ENDS_WITHIN_S = 900


def run_command(home: Path, *words: str, ray: RayNodes | None = None) -> subprocess.CompletedProcess[str]:
    """Run `python -m mcl_ray.<words>` in `home`, on `ray` if given.

    Its environment has PATH, HOME and PYTHONPATH alone, and a variable by which threads that wait take no time.
    """
    home.mkdir(parents=True, exist_ok=True)
    if ray is not None:
        (home / ".ray").mkdir(exist_ok=True)
        shutil.copy(ray.token_file, home / ".ray" / "auth_token")
        words = (*words, "--address", ray.address)
    environment = {"PATH": os.defpath, "HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.run(
        [sys.executable, "-m", f"mcl_ray.{words[0]}", *words[1:]],
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
