"""The Grafana dashboard draws what runs tell, all of it and nothing else, and its README says what there is."""

import json
import re
from itertools import combinations
from pathlib import Path

from trainables.prometheus import GAUGES, RUN_TAGS

FOLDER = Path(__file__).resolve().parents[1] / "deploy" / "monitoring"
DASHBOARD = json.loads((FOLDER / "grafana-mcl.json").read_text())
README = (FOLDER / "README.md").read_text()
PANELS = DASHBOARD["panels"]
TARGETS = [target for panel in PANELS for target in panel["targets"]]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
QUERIES = [target["expr"] for target in TARGETS]
TAGS = {f"ray_{name}": {*RUN_TAGS, *kind.tags} for name, kind in GAUGES.items()}


def gauges_of(query):
    return re.findall(r"\b(ray_\w+)", query)


def test_every_gauge_is_shown_and_no_other():
    assert {gauge for query in QUERIES for gauge in gauges_of(query)} == set(TAGS)


def test_a_query_names_only_tags_of_its_gauge():
    lists = [variable["definition"] for variable in VARIABLES.values() if variable["type"] == "query"]
    for query, legend in [*((t["expr"], t["legendFormat"]) for t in TARGETS), *((text, "") for text in lists)]:
        (gauge,) = gauges_of(query)
        matched = re.findall(r"(\w+)(?:=~|!~|!=|=)\"", query)
        grouped = re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", query)))
        listed = re.findall(r"label_values\(.*, (\w+)\)", query)
        assert {*matched, *grouped, *listed, *re.findall(r"{{(\w+)}}", legend)} <= TAGS[gauge], query
        assert set(RUN_TAGS[:3]) <= set(matched) or listed, query


def test_what_a_legend_names_is_what_its_query_keeps():
    for target in TARGETS:
        kept = re.match(r"\w+ by \(([^)]*)\)", target["expr"])
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= set(kept[1].split(", ") if kept else [])


def test_every_variable_is_there():
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


def test_the_readme_has_every_gauge_with_its_tags():
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| (.*) \|$", README, re.MULTILINE)
    assert {name: (tuple(re.findall(r"`(\w+)`", tags)), meaning) for name, tags, meaning in rows} == {
        f"ray_{name}": (kind.tags, kind.description) for name, kind in GAUGES.items()
    }
    assert set(RUN_TAGS) <= set(re.findall(r"`(\w+)`", README))


def test_the_readme_names_files_that_exist():
    for named in re.findall(r"`([\w-]+\.(?:json|md))`", README):
        assert (FOLDER / named).exists() or named == "prom_metrics_service_discovery.json", named
