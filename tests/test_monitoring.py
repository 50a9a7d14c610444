"""Dashboards and alert rules ask for metrics that exist; tests/api has the service's, tests/test_docs.py the README."""

import json
import re
from itertools import combinations
from pathlib import Path

import pytest
import yaml
from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

from api.monitoring import REGISTRY
from mcl_ray import errors
from tests.support.deploy_tools import call, program
from trainables.prometheus import GAUGES, RUN_TAGS

FOLDER = Path(__file__).resolve().parents[1] / "deploy" / "monitoring"
README = (FOLDER / "README.md").read_text()
TAGS = {f"ray_{name}": {*RUN_TAGS, *kind.tags} for name, kind in GAUGES.items()}
DASHBOARDS = {file.stem: json.loads(file.read_text()) for file in sorted(FOLDER.glob("grafana-*.json"))}
RULES = [rule for group in yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]


def targets_of(dashboard):
    return [target for panel in dashboard["panels"] for target in panel.get("targets", ())]


def variables_of(dashboard):
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}


def of_runs(dashboard):
    return [target["expr"] for target in targets_of(dashboard) if "mcl_service" not in target["expr"]]


@pytest.fixture(params=sorted(DASHBOARDS))
def dashboard(request):
    return DASHBOARDS[request.param]


def metrics_of(query):
    return re.findall(r"\b(ray_\w+)", query)


def test_there_is_a_dashboard_of_training_of_sweeps_and_of_the_service():
    assert sorted(DASHBOARDS) == ["grafana-service", "grafana-sweeps", "grafana-training"]
    assert {found["uid"] for found in DASHBOARDS.values()} == {"mcl-service", "mcl-sweeps", "mcl-training"}
    assert of_runs(DASHBOARDS["grafana-service"]) == []


def test_every_metric_is_shown_and_no_other():
    queries = [query for found in DASHBOARDS.values() for query in of_runs(found)]
    assert {metric for query in queries for metric in metrics_of(query)} == set(TAGS)
    sweeps = of_runs(DASHBOARDS["grafana-sweeps"])
    assert sweeps
    assert all('trial_id!=""' in query for query in sweeps), "runs outside a sweep are not in its dashboard"


def test_a_query_names_only_tags_of_its_metric(dashboard):
    lists = [found["definition"] for found in variables_of(dashboard).values() if found["type"] == "query"]
    shown = [(target["expr"], target["legendFormat"]) for target in targets_of(dashboard)]
    shown = [(query, legend) for query, legend in shown if query in of_runs(dashboard)]
    for query, legend in [*shown, *((text, "") for text in lists)]:
        (metric,) = metrics_of(query)
        matched = re.findall(r"(\w+)(?:=~|!~|!=|=)\"", query)
        grouped = re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", query)))
        listed = re.findall(r"label_values\(.*, (\w+)\)", query)
        assert {*matched, *grouped, *listed, *re.findall(r"{{(\w+)}}", legend)} <= TAGS[metric], query
        assert set(RUN_TAGS[:3]) <= set(matched) or listed, query


def test_a_legend_names_only_labels_that_its_query_keeps(dashboard):
    for target in targets_of(dashboard):
        kept = re.search(r"\w+ by \(([^)]*)\)", target["expr"])
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= set(kept[1].split(", ") if kept else [])


def test_every_variable_is_defined(dashboard):
    variables = variables_of(dashboard)
    assert set(variables) == ({*RUN_TAGS[:3], "datasource"} if of_runs(dashboard) else {"datasource"})
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(dashboard)))
    assert used == set(variables)
    things = [*dashboard["panels"], *targets_of(dashboard), *variables.values()]
    sources = [thing["datasource"] for thing in things if "datasource" in thing]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


def test_panels_have_ids_of_their_own_and_do_not_overlap(dashboard):
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or below, (a, b)


def test_the_readme_names_files_that_exist():
    for named in re.findall(r"`([\w-]+\.(?:json|md))`", README):
        assert (FOLDER / named).exists() or named == "prom_metrics_service_discovery.json", named


@pytest.mark.parametrize("words", [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts-test.yaml")])
def test_the_rules_pass_their_own_tests(words, monkeypatch):
    monkeypatch.chdir(FOLDER)
    done = call(program("promtool"), *words)
    assert (done.returncode, "FAILED" in done.stdout + done.stderr) == (0, False), done.stdout + done.stderr


def test_the_rules_ask_for_metrics_that_exist():
    """Of the service, of runs, and of Ray's nodes, with labels that they have."""
    own = {sample.name for family in REGISTRY.collect() for sample in family.samples}
    own |= {family.name + suffix for family in REGISTRY.collect() for suffix in ("", "_total", "_count", "_bucket")}
    known = own | set(TAGS) | {f"ray_{name}" for name in METRICS_GAUGES}
    for rule in RULES:
        named = set(re.findall(r"\b(?:ray|mcl)_\w+", rule["expr"]))
        assert named
        assert named <= known, rule["alert"]
        for metric in named & set(TAGS):
            matched = set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", rule["expr"]))
            grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", rule["expr"]))))
            assert matched | grouped <= TAGS[metric], rule["alert"]
    (error,) = re.findall(r'error="(\w+)"', " ".join(rule["expr"] for rule in RULES))
    assert issubclass(getattr(errors, error), errors.TrainingError)


def test_every_alert_is_tested_and_on_the_page():
    tests = yaml.safe_load((FOLDER / "alerts-test.yaml").read_text())["tests"]
    fires = {rule["alertname"] for test in tests for rule in test["alert_rule_test"] if rule.get("exp_alerts")}
    fires |= {"MclServiceErrors", "MclBackendLost"}  # by expressions, as their values are not round
    names = [rule["alert"] for rule in RULES]
    assert fires == {*names} - {"MclRunsFail"}
    assert names == re.findall(r"^\| `(Mcl\w+)` \|", README, re.MULTILINE)
