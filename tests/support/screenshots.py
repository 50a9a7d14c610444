"""Screenshots of the service's page, to be looked at: `python -m tests.support.screenshots FOLDER [VIEW …]`."""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page

from tests.support import service_jobs
from tests.support.application import App, running, settings_for
from tests.support.browser import Scheme, chromium, tab

SIZES = {1400: 900, 390: 844}
SCHEMES: tuple[Scheme, ...] = ("light", "dark")


def main(folder: Path, *names: str) -> None:
    """Fill a service with jobs, and write a picture of each view, or of those named, in each size and colour scheme."""
    logging.basicConfig()
    logging.getLogger("api").setLevel(logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as state,
        contextlib.closing(running(settings_for(Path(state), no_reconciler=True))) as services,
    ):
        app = next(services)
        key = app.key("ada", "read", "submit")
        views = _views(app, {"Authorization": f"Bearer {key}"})
        views = {name: address for name, address in views.items() if not names or name in names}
        with chromium() as browser:
            for width, height in SIZES.items():
                for scheme in SCHEMES:
                    with tab(browser, str(app.http.base_url), width=width, height=height, scheme=scheme) as one:
                        _shoot(one.page, folder / f"sign-in-{width}-{scheme}.png")
                        one.page.get_by_label("API key").fill(key)
                        one.page.get_by_role("button", name="Sign in").click()
                        one.page.get_by_role("heading", name="Jobs").wait_for()
                        for name, address in views.items():
                            one.page.goto(f"/{address}")
                            one.page.reload()
                            one.page.wait_for_load_state("load")
                            one.page.wait_for_timeout(1500)
                            _shoot(one.page, folder / f"{name}-{width}-{scheme}.png")
                        sys.stdout.write(f"{width} {scheme}: {one.faults}\n")


def _views(app: App, headers: dict[str, str]) -> dict[str, str]:
    """Return name → address of the views, with jobs in them."""
    sweep = service_jobs.finished_sweep(app, headers)
    single = service_jobs.finished_sweep(app, headers, seeds=(0,), label="one seed")
    live = service_jobs.RunningSweep(app, headers)
    for _ in range(5):
        live.add_epoch()
    jobs = {
        "sweep": sweep, "one-seed": single, "live": live.job_id, "run": service_jobs.run_of_peers(app, headers),
        "failed": service_jobs.failed_run(app, headers), "queued": service_jobs.submit(app, headers, "starting"),
    }  # fmt: skip
    return {"jobs": "#/", "form": "#/submit"} | {name: f"#/jobs/{job_id}" for name, job_id in jobs.items()}


def _shoot(page: Page, path: Path) -> None:
    page.screenshot(path=path, full_page=True)
    page.screenshot(path=path.with_stem(f"{path.stem}-first"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
