"""The page of a whole results folder: its sweeps and runs with their tags, a filter, and a comparison of chosen runs.

The pages of single runs and sweeps are made in `build.py`. Runs are tagged and deleted by `mcl runs`; the page shows
the commands.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mcl_ray.analysis.ranking import RunSummary, summary
from mcl_ray.analysis.sweep_ranking import rank_sweep
from mcl_ray.config.effects import acting
from mcl_ray.reports import page
from mcl_ray.reports.improvement import figure_text, improvement_line
from mcl_ray.reports.labels import NO_VALUE, caption, duration, setting
from mcl_ray.reports.page import Cell, Link, Section
from mcl_ray.reports.report import PAGE_FILE
from mcl_ray.reports.runs import accuracies, epochs_of, score_of
from mcl_ray.reports.sample import MAX_SHOWN
from mcl_ray.results.atomic_io import ensure_writable, write_atomically
from mcl_ray.results.reader import REPORT_FOLDER, read_epochs, read_runs, read_spec, run_folders, sweep_folders
from mcl_ray.results.tags import read_tags

INDEX_FILE = "index.html"
NOTE = "Choose two or more runs to see in which fields they differ, and the commands that compare, tag and delete them."
# Texts of the results are set as text, never as HTML.
SCRIPT = """
const known = JSON.parse(document.getElementById("known-runs").textContent);
const rows = [...document.querySelectorAll("tr[id]")].filter((row) => row.id in known);
const find = document.getElementById("find"), chosen = document.getElementById("chosen");
const make = (name, text) => Object.assign(document.createElement(name), {textContent: text});
const isChosen = (row) => row.cells[0].firstChild.checked;
for (const row of rows) {
  const box = Object.assign(document.createElement("input"), {type: "checkbox", ariaLabel: `choose ${row.id}`});
  box.addEventListener("change", show);
  row.cells[0].replaceChildren(box);
}
find.addEventListener("input", () => {
  const words = find.value.toLowerCase().split(/\\s+/);
  for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
});
function show() {
  const ids = rows.filter(isChosen).map((row) => row.id);
  chosen.replaceChildren();
  if (!ids.length) return;
  const deleted = [...new Set(ids.map((id) => known[id].sweep ?? id))].join(" ");
  const commands = [...ids.map((id) => `mcl runs tag ${id} TAG`), `mcl runs delete ${deleted}`];
  if (ids.length > 1) {
    commands.unshift(`mcl runs compare ${ids.join(" ")}`);
    chosen.append(comparison(ids));
  }
  chosen.append(make("pre", commands.join("\\n")));
}
function comparison(ids) {
  const table = document.createElement("table"), head = table.createTHead().insertRow(), body = table.createTBody();
  head.append(make("th", ""), ...ids.map((id) => make("th", id)));
  for (const part of ["fields", "figures"]) {
    for (const name of new Set(ids.flatMap((id) => Object.keys(known[id][part])))) {
      const values = ids.map((id) => known[id][part][name] ?? "\\u2013");
      if (part === "fields" && new Set(values).size === 1) continue;
      const row = body.insertRow();
      row.append(make("td", name), ...values.map((value) => make("td", value)));
    }
  }
  const wide = Object.assign(document.createElement("div"), {className: "wide"});
  wide.append(table);
  return wide;
}
"""


def write_index(results: Path) -> Path:
    """Write the page of a results folder, `report/index.html`, and return its file.

    Raises:
        StoreError: the folder holds no results, or damaged ones, or cannot be written.
    """
    folder = results / REPORT_FOLDER
    sweeps = sweep_folders(results)
    folders = {path.name: path for path in run_folders(results)}
    newest = read_runs(results)["run_id"].to_pylist()[-MAX_SHOWN:] if len(folders) > MAX_SHOWN else folders
    runs = {folders[run_id]: _summary(folders[run_id]) for run_id in newest}
    sections = [_sweeps(sweeps, folder), _runs(runs, folder, len(folders))]
    facts = {"folder": results.resolve().name, "sweeps": str(len(sweeps)), "runs": str(len(folders))}
    ensure_writable(folder)
    content = page.render("Results", facts, [section for section in sections if section.cells])
    write_atomically(folder / INDEX_FILE, content.encode())
    return folder / INDEX_FILE


def _sweeps(sweeps: Sequence[Path], folder: Path) -> Section:
    headers = ("sweep", "state", "configurations", "best", "configuration", "result", "started (UTC)", "wall time")
    cells = [_sweep_cells(path, folder) for path in sweeps]
    return Section(title="Sweeps", headers=headers, cells=cells)


def _sweep_cells(path: Path, folder: Path) -> list[Cell]:
    ranked = rank_sweep(path)
    sweep, best, found = ranked.sweep, ranked.best, ranked.improvement
    tried = sum(not row.is_compared for row in ranked.rows)
    return [
        _link(path, folder),
        sweep["state"],
        f"{tried}/{sweep['trials_planned']}",
        NO_VALUE if best is None else figure_text(best, ranked.goal),
        NO_VALUE if best is None else caption(best),
        "" if found is None else improvement_line(found, ranked.objective),
        f"{sweep['started_at']:%Y-%m-%d %H:%M}",
        duration(sweep["wall_time_s"]),
    ]


def _runs(runs: Mapping[Path, RunSummary], folder: Path, total: int) -> Section:
    """Return the runs, the newest first, with the script that compares those that are chosen."""
    note = NOTE if len(runs) == total else f"The newest {len(runs):,} of {total:,} runs. {NOTE}"
    headers = ("", "run", "recipe", "state", "epochs", "top-1 (%)", "of", "tags", "started (UTC)", "wall time")
    newest = sorted(runs, key=lambda path: runs[path].run["started_at"], reverse=True)
    cells: list[list[Cell]] = [
        [
            "",
            _link(path, folder),
            found.run["recipe"],
            found.run["state"],
            epochs_of(found.run),
            *score_of(found),
            " ".join(read_tags(path)),
            f"{found.run['started_at']:%Y-%m-%d %H:%M}",
            duration(found.run["wall_time_s"]),
        ]
        for path, found in ((path, runs[path]) for path in newest)
    ]
    finder = '<input id="find" type="search" placeholder="filter, e.g. by a tag" aria-label="filter runs">'
    known = json.dumps(_known(runs)).replace("<", "\\u003c")
    raw = f'<div id="chosen"></div><script id="known-runs" type="application/json">{known}</script>'
    ids, raw = [path.name for path in newest], f"{raw}<script>{SCRIPT}</script>"
    return Section(title="Runs", note=note, above=finder, headers=headers, cells=cells, row_ids=ids, raw=raw)


def _known(runs: Mapping[Path, RunSummary]) -> dict[str, dict[str, object]]:
    """Return run → what is compared: its sweep, its figures, and the fields in which any two runs differ."""
    specs = {path: {name: setting(value) for name, value in acting(read_spec(path)).items()} for path in runs}
    values: dict[str, set[str | None]] = {}
    for name in {name for spec in specs.values() for name in spec}:
        values[name] = {spec.get(name) for spec in specs.values()}
    return {
        path.name: {
            "sweep": found.run["sweep_id"],
            "fields": {name: value for name, value in specs[path].items() if len(values[name]) > 1},
            "figures": {"state": found.run["state"], "epochs": epochs_of(found.run)} | accuracies(found),
        }
        for path, found in runs.items()
    }


def _link(path: Path, folder: Path) -> list[Link]:
    """Return the link to a run's or a sweep's page; to its folder, if it has none."""
    report = path / REPORT_FOLDER / PAGE_FILE
    target = os.path.relpath(report if report.is_file() else path, folder)
    return [Link(path.name, target if report.is_file() else f"{target}/")]


def _summary(folder: Path) -> RunSummary:
    return summary(read_runs(folder), read_epochs(folder))
