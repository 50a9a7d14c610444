"""The token of this user's local Rays: one for all processes, and readable by this user alone."""

from __future__ import annotations

import multiprocessing
import stat
from pathlib import Path

import pytest

from tests.support.commands import HANGS_AFTER_S
from trainables.cluster.token import credentials, ensure_token

RAYS = 4


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """The home of a user without a token."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.slow
def test_rays_that_start_together_have_one_token(home):
    context = multiprocessing.get_context("spawn")
    ready, shown = context.Barrier(RAYS), context.SimpleQueue()
    rays = [context.Process(target=_first_ray, args=(ready, shown), daemon=True) for _ in range(RAYS)]
    for ray in rays:
        ray.start()
    for ray in rays:
        ray.join(HANGS_AFTER_S)
    file = home / ".ray/auth_token"
    assert [ray.exitcode for ray in rays] == [0] * RAYS
    assert {shown.get() for _ in rays} == {f"Bearer {file.read_text()}"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["auth_token"], "nothing else is left"


def _first_ray(ready, shown) -> None:
    ready.wait()
    ensure_token()
    ((_, value),) = credentials()
    shown.put(value)
