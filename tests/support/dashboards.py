"""Pictures of the dashboards of other programs for a real sweep: `python -m tests.support.dashboards FOLDER`.

Runs a small sweep on a local Ray, and takes pictures of Ray's dashboard while it trains and of Optuna's after it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page

from tests.support.browser import chromium

SWEEP = ("digits", "trials=8", "epochs=12", "scheduler.kind=none", "confirm.configurations=0", "baseline={}")
SIZE = {"width": 1200, "height": 700}
COLOURS = 64
"""Colours of a picture, which make it a few ten KB."""


def main(folder: Path) -> None:
    """Write `ray-actors.png` and `optuna.png` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as results, chromium() as browser:
        with _running("mcl", "sweep", *SWEEP, "--results", results) as sweep:
            address = _line(sweep, r"Ray dashboard: (http://\S+)")
            _line(sweep, r"(trial 1/8)")
            token = subprocess.run(["ray", "get-auth-token"], capture_output=True, text=True, check=True).stdout.strip()
            with _page(browser, {"Authorization": f"Bearer {token}"}) as page:
                page.goto(f"{address}/#/actors")
                page.get_by_role("table").first.wait_for()
                page.wait_for_timeout(2000)
                _shoot(page, folder / "ray-actors.png")
            sweep.communicate()
        with (
            _running("mcl", "monitor", "--results", results, "--port", "0") as monitor,
            _page(browser) as page,
        ):
            page.goto(_line(monitor, r"Optuna dashboard of \S+ (http://\S+)"))
            page.get_by_role("link", name=re.compile("digits")).first.click()
            page.wait_for_timeout(4000)
            _shoot(page, folder / "optuna.png")
            monitor.terminate()


@contextmanager
def _running(*command: str) -> Iterator[subprocess.Popen[str]]:
    variables = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def _line(process: subprocess.Popen[str], pattern: str) -> str:
    """Return the group of the first line of the output that matches."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(pattern, line):
            return found[1]
    raise AssertionError(f"the command ended without a line {pattern!r}")


@contextmanager
def _page(browser: Browser, headers: dict[str, str] | None = None) -> Iterator[Page]:
    context = browser.new_context(viewport=SIZE, extra_http_headers=headers or {})
    try:
        yield context.new_page()
    finally:
        context.close()


def _shoot(page: Page, file: Path) -> None:
    page.screenshot(path=file)
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(COLOURS).save(file, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
