"""A headless Chromium, and a page of it that remembers what a user must not meet: errors, and requests to elsewhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

Scheme = Literal["light", "dark"]
HANGS_AFTER_MS = 600_000
"""Time after which a page that does not get as far as a test expects counts as hanging."""
expect.set_options(timeout=HANGS_AFTER_MS)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium; Playwright's own would be downloaded from elsewhere."""
    program = os.environ.get("MCL_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs Chromium (Debian: chromium), which is missing here")
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=program, args=options, timeout=HANGS_AFTER_MS)
        try:
            yield browser
        finally:
            browser.close()


def new_context(browser: Browser, *, width: int, height: int, scheme: Scheme, url: str | None = None) -> BrowserContext:
    """Return a profile without cookies, with a window of this size; whatever it waits for may take long."""
    context = browser.new_context(base_url=url, viewport={"width": width, "height": height}, color_scheme=scheme)
    context.set_default_timeout(HANGS_AFTER_MS)
    return context


@dataclass
class Tab:
    """A page of the browser, with its own cookies."""

    page: Page
    faults: list[str] = field(default_factory=list)
    """Errors of scripts, violations of the policy, and requests to another host."""

    def check(self) -> None:
        """Assert that nothing went wrong, and that nothing is wider than the window."""
        assert self.faults == []
        widths = self.page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert widths[0] <= widths[1], f"the page is {widths[0]} pixels wide in a window of {widths[1]}"


@contextmanager
def tab(browser: Browser, url: str, *, width: int = 1400, height: int = 900, scheme: Scheme = "light") -> Iterator[Tab]:
    """Open the page of a service."""
    context = new_context(browser, width=width, height=height, scheme=scheme, url=url)
    page = context.new_page()
    found, host = Tab(page), urlsplit(url).netloc

    def note(request_url: str) -> None:
        parts = urlsplit(request_url)
        if parts.scheme not in ("data", "blob") and parts.netloc != host:
            found.faults.append(f"request to {request_url}")

    def on_console(message: object) -> None:
        text, kind = message.text, message.type  # type: ignore[attr-defined]
        # Chromium reports each answer of 4xx there; those are the service's, and the page shows them.
        if kind in ("error", "warning") and "the server responded with a status of 4" not in text:
            found.faults.append(f"{kind}: {text}")

    page.on("request", lambda request: note(request.url))
    page.on("console", on_console)
    page.on("pageerror", lambda error: found.faults.append(f"exception: {error}"))
    try:
        page.goto("/")
        yield found
    finally:
        context.close()
