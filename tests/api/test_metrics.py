"""The metrics of the service: finite, documented, and drawn by the Grafana dashboard, which asks for no others."""

import json
import math
import re
from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from api.database import job

FOLDER = Path(__file__).parents[2] / "deploy" / "monitoring"
PANELS = json.loads((FOLDER / "grafana-service.json").read_text())["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel.get("targets", ()) if "mcl_service" in target["expr"]]
ROWS = dict(re.findall(r"^\| `(mcl_\w+)` \| ([^|]*) \|", (FOLDER / "README.md").read_text(), re.MULTILINE))


@pytest.fixture
def families(app):
    """Name → metric, after a request and with a job."""
    headers = app.headers()
    app.submit(headers)
    found = text_string_to_metric_families(app.http.get("/metrics", headers=headers).text)
    metrics = {metric.name: metric for metric in found}
    return {name: metric for name, metric in metrics.items() if not name.endswith("_created")}


def test_every_value_is_finite(app, families):
    samples = [sample for metric in families.values() for sample in metric.samples]
    assert len(samples) > 20
    assert all(math.isfinite(sample.value) and sample.value >= 0 for sample in samples)


def test_every_metric_is_documented_with_its_labels(families):
    labels = {name: set() for name in families}
    for name, metric in families.items():
        labels[name] = {label for sample in metric.samples for label in sample.labels} - {"le"}
    documented = {name.removesuffix("_total"): set(re.findall(r"`(\w+)`", text)) for name, text in ROWS.items()}
    assert set(documented) == set(families)
    assert all(labels[name] in (documented[name], set()) for name in families)  # without a sample yet, it has none


def test_the_dashboard_draws_every_metric_and_no_other(families):
    drawn = {name for query in QUERIES for name in re.findall(r"\b(mcl_service_\w+)", query)}
    samples = {sample.name for metric in families.values() for sample in metric.samples}
    assert {re.sub("_(total|count|bucket)$", "", name) for name in drawn} == set(families)
    assert drawn - samples <= {"mcl_service_steps_total"}  # which has none before the first step
    for query in QUERIES:
        (name,) = re.findall(r"\b(mcl_service_\w+)", query)
        grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", query)))) - {"le"}
        documented = ROWS.get(name) or ROWS[re.sub("_(count|bucket)$", "", name)]
        assert grouped <= set(re.findall(r"`(\w+)`", documented)), query


def test_the_queue_is_counted(app, families):
    values = {(sample.name, *sample.labels.values()): sample.value for m in families.values() for sample in m.samples}
    assert values["mcl_service_jobs", "queued"] == 1
    assert values["mcl_service_jobs", "running"] == values["mcl_service_oldest_job_seconds", "running"] == 0
    with app.database.write_engine.begin() as connection:
        connection.execute(sa.update(job).values(state="running", created=job.c.created - 500, due=1.0))
    text = app.http.get("/metrics", headers=app.headers()).text
    assert float(re.search(r'oldest_job_seconds\{state="running"\} (\S+)', text)[1]) >= 500
    assert float(re.search(r"^mcl_service_reconcile_lag_seconds (\S+)", text, re.MULTILINE)[1]) > 1e6


def test_a_request_is_counted_under_its_route(app):
    headers = app.headers()
    app.http.get(f"/api/v1/jobs/{'0' * 32}/trials", headers=headers)
    app.http.get("/nope/secret-path", headers=headers)
    text = app.http.get("/metrics", headers=headers).text
    assert 'method="GET",path="/api/v1/jobs/{job_id}/trials",status="404"' in text
    assert "secret-path" not in text
