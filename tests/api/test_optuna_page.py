"""The Optuna dashboard behind the service's gate, with a study that a sweep exported: for admins, and to read alone."""

import contextlib
import http.client
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

STUDY = Path(__file__).parents[1] / "fixtures/c5bbcbf/results/sweeps/digits-b27ebce308-1/study.db"


@pytest.fixture(scope="module")
def study(shared):
    """A job with a study, and the headers of an admin."""
    job = shared.submit(shared.headers("ada")).json()["id"]
    folder = shared.settings.results_root / "jobs" / job / "results" / "sweeps"
    for name in ("digits-1", "digits-2"):
        (folder / name).mkdir(parents=True)
    shutil.copy(STUDY, folder / "digits-1")
    (folder / "digits-2" / "study.db").touch()  # of a sweep that has just started
    return job, shared.headers("root", "admin")


def test_an_admin_sees_the_studies_of_every_owner(shared, study):
    job, admin = study
    (found,) = shared.http.get("/api/studies", headers=admin).json()["study_summaries"]
    assert found["study_name"] == f"digits-1 of job {job}"
    url = f"/api/studies/{found['study_id']}"
    detail = shared.http.get(url, headers=admin).json()
    assert len(detail["trials"]) > 1
    assert {trial["state"] for trial in detail["trials"]} >= {"Complete"}
    assert shared.http.get(f"{url}/param_importances", headers=admin).status_code == 200
    assert shared.http.get(f"{url}/plot/timeline", headers=admin).status_code == 200
    assert shared.http.get(f"/csv/{found['study_id']}", headers=admin).text.startswith("Number,State,")
    assert shared.http.get("/api/studies/1", headers=admin).status_code == 404
    assert shared.http.get("/api/meta", headers=admin).json()["artifact_is_available"] is False


def test_the_page_is_whole(shared, study):
    page = shared.http.get("/dashboard", headers=study[1])
    assert page.status_code == 200
    assert 'src="/static/bundle.js"' in page.text
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "DENY"
    assert shared.http.get("/dashboard/studies/1", headers=study[1]).text == page.text
    assert len(shared.http.get("/static/bundle.js", headers=study[1]).content) > 100_000


@pytest.mark.parametrize("path", ["/static/bundle.js", "/api/meta"])
def test_clients_need_not_name_an_encoding(shared, study, path):
    url = shared.http.base_url
    with contextlib.closing(http.client.HTTPConnection(url.host, url.port)) as connection:
        connection.putrequest("GET", path, skip_accept_encoding=True)
        connection.putheader("Authorization", study[1]["Authorization"])
        connection.endheaders()
        assert connection.getresponse().status == 200


def test_nothing_can_be_changed(shared, study):
    _, admin = study
    before = shared.http.get("/api/studies", headers=admin).json()
    url = f"/api/studies/{before['study_summaries'][0]['study_id']}"
    for method, path in (("DELETE", url), ("POST", "/api/studies"), ("PUT", f"{url}/note"), ("POST", f"{url}/rename")):
        assert shared.http.request(method, path, headers=admin, json={}).status_code == 405
    assert shared.http.get("/api/studies", headers=admin).json() == before


def test_it_is_imported_when_it_is_opened():
    code = "import sys, api.app; sys.exit('optuna' in sys.modules or 'optuna_dashboard' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 0


def test_the_links_to_the_dashboards_are_for_admins(shared, study):
    assert shared.http.get("/api/v1/session", headers=study[1]).json()["dashboards"] == {
        "optuna": "/dashboard",
        "ray": shared.settings.address,
    }
    answer = shared.http.get("/api/v1/session", headers=shared.headers("ada")).json()
    assert answer == {"owner": "ada", "scopes": ["read", "submit"], "dashboards": {}}
