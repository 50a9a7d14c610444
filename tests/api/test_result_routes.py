"""The endpoints of results: tables in three formats, logs and artifacts."""

import io
import json
import os
from html.parser import HTMLParser

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.requests import Request

from api.tables import table
from mcl_ray.reports import run_links
from mcl_ray.reports.build import write_report
from tests.support.application import is_problem
from tests.support.synthetic import write_sweep


@pytest.fixture
def swept(app):
    """A job with the results of a sweep."""

    headers = app.headers()
    job = app.submit(headers).json()["id"]
    folder = app.settings.results_root / "jobs" / job / "results"
    folder.mkdir(parents=True)
    write_sweep(folder, [{"losses.alpha": number / 10} for number in range(8)])
    return headers, f"/api/v1/jobs/{job}"


@pytest.mark.parametrize("name", ["trials", "runs", "metrics"])
def test_results_in_three_formats(app, swept, name):
    headers, path = swept
    plain = app.http.get(f"{path}/{name}", headers=headers)
    rows = plain.json()["rows"]
    assert rows
    parquet = app.http.get(f"{path}/{name}", headers=headers | {"Accept": "application/vnd.apache.parquet"})
    assert len(rows) == pq.read_table(io.BytesIO(parquet.content)).num_rows
    csv = app.http.get(f"{path}/{name}", headers=headers | {"Accept": "text/csv"})
    assert csv.headers["content-type"].startswith("text/csv")
    assert csv.text.splitlines()[0].replace('"', "").split(",") == list(rows[0])
    assert is_problem(app.http.get(f"{path}/{name}", headers=headers | {"Accept": "image/png"}), 406)
    again = app.http.get(f"{path}/{name}", headers=headers | {"If-None-Match": plain.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert app.http.get(f"{path}/{name}", headers=headers | {"If-None-Match": '"other"'}).status_code == 200


def test_the_ranking_is_the_reports(app, swept):
    headers, path = swept
    rows = app.http.get(f"{path}/trials", headers=headers).json()["rows"]
    scored = [row["score"] for row in rows if row["score"] is not None]
    assert scored == sorted(scored, reverse=True)
    assert json.loads(rows[0]["searched"])


def test_metrics_are_filtered(app, swept):
    headers, path = swept
    run = app.http.get(f"{path}/runs", headers=headers).json()["rows"][0]["run_id"]
    rows = app.http.get(f"{path}/metrics", params={"run": run, "metric": "top1"}, headers=headers).json()["rows"]
    assert rows
    assert {(row["run_id"], row["metric"]) for row in rows} == {(run, "top1")}


def test_logs_are_read_in_parts(shared):
    headers = shared.headers()
    job = shared.submit(headers).json()["id"]
    file = shared.settings.results_root / "jobs" / job / "a1.log"
    file.parent.mkdir(parents=True)
    file.write_text("<script>alert(1)</script>" + "x" * 100 + "end")
    answer = shared.http.get(f"/api/v1/jobs/{job}/logs", params={"count": 3}, headers=headers)
    assert (answer.text, answer.headers["x-next-offset"]) == ("end", "128")
    assert answer.headers["content-type"].startswith("text/plain")
    assert shared.http.get(f"/api/v1/jobs/{job}/logs?offset=0&count=8", headers=headers).text == "<script>"
    assert shared.http.get(f"/api/v1/jobs/{job}/logs?offset=9999", headers=headers).text == ""


def test_artifacts_are_what_the_manifest_lists(shared):
    headers = shared.headers()
    job = shared.submit(headers).json()["id"]
    folder = shared.settings.results_root / "jobs" / job
    (folder / "results").mkdir(parents=True)  # no runs: an export has none
    (folder / "results" / "a.txt").write_text("hello")
    (folder / "secret").write_text("secret")
    files = {name: {"bytes": 5, "sha256": "0"} for name in ("a.txt", "../secret")}
    (folder / "a1.manifest").write_text(json.dumps({"files": files}))
    path = f"/api/v1/jobs/{job}/artifacts"
    assert len(shared.http.get(path, headers=headers).json()) == 2
    assert shared.http.get(f"{path}/a.txt", headers=headers).text == "hello"
    for name in ("..%2fsecret", "%2e%2e/secret", "b.txt", "../secret", "/etc/passwd"):
        assert shared.http.get(f"{path}/{name}", headers=headers).status_code in (404, 307), name


def test_damaged_results_are_named(app, swept):
    """A truncated table, or a manifest that is no JSON, is no error of the service."""
    headers, path = swept
    folder = app.settings.results_root / "jobs" / path.rpartition("/")[2]
    manifest = folder / "a1.manifest"
    table = next((folder / "results").rglob("epochs-*.parquet"))
    manifest.write_text('{"files": {')
    table.write_bytes(table.read_bytes()[:-10])
    for name, file in (("metrics", table), ("artifacts", manifest)):
        answer = app.http.get(f"{path}/{name}", headers=headers)
        assert is_problem(answer, 404)
        assert f"{file.name} " in answer.json()["detail"]
        assert "is damaged" in answer.json()["detail"]


def test_the_newest_report_is_sent(app, swept):
    headers, path = swept
    assert app.http.get(f"{path}/report", headers=headers).status_code == 404
    folder = app.settings.results_root / "jobs" / path.rpartition("/")[2] / "results"
    for number, sweep in enumerate(("a", "b")):
        page = folder / "sweeps" / sweep / "report" / "report.html"
        page.parent.mkdir(parents=True)
        page.write_text(f"report {sweep}")
        os.utime(page, (number, number))
    answer = app.http.get(f"{path}/report", headers=headers)
    assert answer.text == "report b"
    assert "sandbox" in answer.headers["content-security-policy"]


class Anchors(HTMLParser):
    """The ids of a page, and where its links lead."""

    def __init__(self, page):
        super().__init__()
        self.ids, self.targets = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids |= {given["id"]} if "id" in given else set()
        self.targets += [given["href"]] if "href" in given else []


def test_no_link_of_a_report_that_is_sent_leads_nowhere(app, swept):
    """Runs have folders beside the stored page; what is sent has links to rows of the page alone."""
    headers, path = swept
    (folder,) = (app.settings.results_root / "jobs" / path.rpartition("/")[2] / "results" / "sweeps").iterdir()
    page = write_report(folder)[-1]
    stored, answer = Anchors(page.read_text()), app.http.get(f"{path}/report", headers=headers)
    sent = Anchors(answer.text)
    runs = {run.name for run in (folder / "runs").iterdir()}
    assert {target for target in stored.targets if not target.startswith("#")} == {f"../runs/{name}/" for name in runs}
    assert all((page.parent / f"../runs/{name}").is_dir() for name in runs)
    assert sent.targets
    assert {target.removeprefix("#") for target in sent.targets} <= sent.ids
    assert all(answer.text.count(name) == page.read_text().count(name) - 1 for name in runs), "its name is still there"
    assert run_links.NOTE not in answer.text
    assert run_links.SENT_NOTE in answer.text
    assert run_links.NOTE in page.read_text()
    again = app.http.get(f"{path}/report", headers=headers | {"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304


def test_json_has_no_nan(app):

    request = Request({"type": "http", "headers": [(b"accept", b"application/json")]})
    answer = table(request, pa.table({"a": [float("nan"), float("inf"), 1.0], "b": [[float("nan")], [2.0], []]}))
    rows = json.loads(answer.body)["rows"]
    assert rows == [{"a": None, "b": [None]}, {"a": None, "b": [2.0]}, {"a": 1.0, "b": []}]
