"""The Grafana dashboard draws every metric of runs, and its README lists them; tests/api has those of the service."""

import json
import re
from itertools import combinations
from pathlib import Path

from trainables.prometheus import GAUGES, RUN_TAGS

FOLDER = Path(__file__).resolve().parents[1] / "deploy" / "monitoring"
DASHBOARD = json.loads((FOLDER / "grafana-mcl.json").read_text())
README = (FOLDER / "README.md").read_text()
PANELS = DASHBOARD["panels"]
TARGETS = [target for panel in PANELS for target in panel.get("targets", ())]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
QUERIES = [target["expr"] for target in TARGETS if "mcl_service" not in target["expr"]]
TAGS = {f"ray_{name}": {*RUN_TAGS, *kind.tags} for name, kind in GAUGES.items()}


def metrics_of(query):
    return re.findall(r"\b(ray_\w+)", query)


def test_every_metric_is_shown_and_no_other():
    assert {metric for query in QUERIES for metric in metrics_of(query)} == set(TAGS)


def test_a_query_names_only_tags_of_its_metric():
    lists = [variable["definition"] for variable in VARIABLES.values() if variable["type"] == "query"]
    of_runs = [(target["expr"], target["legendFormat"]) for target in TARGETS if target["expr"] in QUERIES]
    for query, legend in [*of_runs, *((text, "") for text in lists)]:
        (metric,) = metrics_of(query)
        matched = re.findall(r"(\w+)(?:=~|!~|!=|=)\"", query)
        grouped = re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", query)))
        listed = re.findall(r"label_values\(.*, (\w+)\)", query)
        assert {*matched, *grouped, *listed, *re.findall(r"{{(\w+)}}", legend)} <= TAGS[metric], query
        assert set(RUN_TAGS[:3]) <= set(matched) or listed, query


def test_a_legend_names_only_labels_that_its_query_keeps():
    for target in TARGETS:
        kept = re.search(r"\w+ by \(([^)]*)\)", target["expr"])
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= set(kept[1].split(", ") if kept else [])


def test_every_variable_is_defined():
    assert {*RUN_TAGS[:3], "datasource"} == set(VARIABLES)
    used = set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(DASHBOARD)))
    assert used == set(VARIABLES)
    sources = [thing["datasource"] for thing in [*PANELS, *TARGETS, *VARIABLES.values()] if "datasource" in thing]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


def test_panels_have_ids_of_their_own_and_do_not_overlap():
    assert len({panel["id"] for panel in PANELS}) == len({panel["title"] for panel in PANELS}) == len(PANELS)
    places = [panel["gridPos"] for panel in PANELS]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    for a, b in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        below = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or below, (a, b)


def test_the_readme_has_every_metric_with_its_tags():
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| (.*) \|$", README, re.MULTILINE)
    assert {
        name: (tuple(re.findall(r"`(\w+)`", tags)), meaning) for name, tags, meaning in rows if name.startswith("ray_")
    } == {f"ray_{name}": (kind.tags, kind.description) for name, kind in GAUGES.items()}
    assert set(RUN_TAGS) <= set(re.findall(r"`(\w+)`", README))


def test_the_readme_names_files_that_exist():
    for named in re.findall(r"`([\w-]+\.(?:json|md))`", README):
        assert (FOLDER / named).exists() or named == "prom_metrics_service_discovery.json", named
