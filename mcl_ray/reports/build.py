"""Building reports: PNG figures and one HTML page, written into the folder of a run or of a sweep.

Importances are an argument, as they are computed with Optuna, which this package does not import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from matplotlib.figure import Figure

from mcl_ray.analysis import ranking
from mcl_ray.analysis.importance import Importances
from mcl_ray.analysis.ranking import Ranked
from mcl_ray.config.scoring import Score, Scoring
from mcl_ray.config.spec import RunSpec
from mcl_ray.reports import interactive, interactive_pareto, page, plots, terminal
from mcl_ray.reports.axes import scored
from mcl_ray.reports.labels import MEMBER_LABELS, NO_VALUE, caption, objective_label, parameters_of
from mcl_ray.reports.page import Section
from mcl_ray.reports.pareto import priced
from mcl_ray.reports.terminal import describe_provenance, describe_published, describe_run, ranking_cells
from mcl_ray.results import queries, reader
from mcl_ray.results.atomic_io import ensure_writable, write_atomically
from mcl_ray.results.queries import Objective

ImportanceSource = Callable[[Sequence[Ranked]], Importances] | Mapping[str, float] | None
"""A function from a ranking to importances, such as `searches.importance.importances`; or parameter → share."""
PAGE_FILE = "report.html"


def write_report(path: Path, importances: ImportanceSource = None) -> list[Path]:
    """Write `report/` into a run or a sweep; for a results folder, into every sweep and every run outside of sweeps.

    Nothing is uploaded: for a folder in a replica, the caller pushes the files.

    Args:
        path: Folder of a run or of a sweep, or a results folder.
        importances: Importances of a sweep's parameters, or a function that computes them.

    Returns:
        The files written.

    Raises:
        StoreError: `path` holds no results, damaged ones, or cannot be written.
    """
    if reader.is_run(path):
        return _report_run(path)
    if reader.is_sweep(path):
        return _report_sweep(path, importances)
    sweeps = reader.sweep_folders(path)
    single_runs = [folder for folder in reader.run_folders(path) if folder.parent == path / "runs"]
    reports = [_report_sweep(folder, importances) for folder in sweeps] + [_report_run(run) for run in single_runs]
    return [file for report in reports for file in report]


def _report_run(folder: Path) -> list[Path]:
    runs, epochs = reader.read_runs(folder), reader.read_epochs(folder)
    summary = ranking.summary(runs, epochs)
    run_id, run = summary.run["run_id"], summary.run
    cells = [_score_cells(score) for score in summary.scores]
    facts = {"recipe": run["recipe"], "state": run["state"], "seed": str(run["seed"])}
    facts |= {"epochs": f"{run['epochs_done']} of {run['epochs_planned']}", "attempts": str(run["attempt"])}
    sections = [Section(title="Accuracy at the last epoch", note=_RUN_NOTE, headers=summary.headers, cells=cells)]
    figures: dict[str, Figure] = {}
    if epochs.num_rows:
        figures["learning_curves"] = plots.learning_curves(epochs, [run_id])
        sections.append(Section(title="Learning curves", figure=interactive.learning_curves(epochs, [run_id])))
    sections.append(Section(title="Spec", code=_to_yaml(run["spec"])))
    content = page.render(f"Run {run_id}", facts | describe_run(summary), sections)
    return _write(folder / reader.REPORT_FOLDER, figures, content)


def _score_cells(score: ranking.MemberScore) -> list[str]:
    top5 = NO_VALUE if score.top5 is None else f"{score.top5:.2f}"
    return [MEMBER_LABELS.get(score.member, score.member), score.split, str(score.epoch), f"{score.top1:.2f}", top5]


_RUN_NOTE = (
    "One run (n=1). Accuracies are those of the last epoch that was scored. best_peer_best_epoch is the best peer's "
    "test accuracy at its best test epoch, the figure of the published tables."
)


def _report_sweep(folder: Path, importances: ImportanceSource) -> list[Path]:
    sweep = reader.read_row(folder / reader.SWEEP_FILE, "sweeps")
    runs, epochs = reader.read_runs(folder), reader.read_epochs(folder)
    objective, mode, scoring = sweep["objective"], sweep["mode"], Scoring.parse(sweep["spec"])
    rows = ranking.ranking(runs, epochs, objective, mode, scoring.score, scoring.repeats)
    headers, cells = ranking_cells(rows, objective, mode, scoring)
    note = _ranking_note(rows, objective, mode, scoring, epochs)
    sections = [Section(title="Ranking", note=note, headers=headers, cells=cells)]
    figures: dict[str, Figure] = {}
    if scored(rows):
        if priced(rows, scoring.costs) and scoring.costs:
            _add_front(rows, objective, mode, scoring, figures, sections)
        _add_curves(epochs, rows[0], figures, sections)
        if parameters_of(rows):
            _add_search_figures(rows, objective, mode, scoring.score, importances, figures, sections)
        sections.append(Section(title="Best spec", code=_spec_yaml(runs, rows[0].run_ids[0])))
    facts = _sweep_facts(sweep, rows, runs, scoring) | (_best_facts(rows[0], runs, epochs) if scored(rows) else {})
    content = page.render(f"Sweep {sweep['name']}", facts, sections)
    return _write(folder / reader.REPORT_FOLDER, figures, content)


def _add_front(
    rows: Sequence[Ranked],
    objective: str,
    mode: str,
    scoring: Scoring,
    figures: dict[str, Figure],
    sections: list[Section],
) -> None:
    figures["pareto"] = plots.pareto(rows, objective, mode, scoring)
    figure = interactive_pareto.pareto(rows, objective, mode, scoring)
    front = ranking.pareto_front(rows, scoring.costs, mode)
    note = f"{terminal.front_title(rows, front, mode, scoring.costs)}. {_FRONT_NOTE}"
    headers, cells = ranking_cells(front, objective, mode, scoring)
    sections.append(Section(title="Pareto front", note=note, headers=headers, cells=cells, figure=figure))


_FRONT_NOTE = (
    "No configuration is as good as one on the front in everything and better in something. A number in the figure is "
    "a place in the ranking, bars are ± std over seeds, and the line is the best score to be had at this cost or less, "
    "whatever the other costs are."
)


def _add_curves(epochs: pa.Table, best: Ranked, figures: dict[str, Figure], sections: list[Section]) -> None:
    figures["learning_curves"] = plots.learning_curves(epochs, best.run_ids, caption(best))
    legend = plots.seeds_legend(len(best.run_ids))
    note = " ".join([f"{legend}." if legend else "", " ".join(best.run_ids)]).strip()
    title = "Learning curves of the best configuration" if legend else "Learning curves of the best run"
    sections.append(Section(title=title, note=note, figure=interactive.learning_curves(epochs, best.run_ids)))


def _add_search_figures(
    rows: Sequence[Ranked],
    objective: str,
    mode: str,
    score: Score,
    importances: ImportanceSource,
    figures: dict[str, Figure],
    sections: list[Section],
) -> None:
    figures["parallel_coordinates"] = plots.parallel_coordinates(rows, objective, mode, score)
    lines = interactive.parallel_coordinates(rows, objective, mode, score)
    figures["accuracy_by_parameter"] = plots.accuracy_by_parameter(rows, objective, mode, score)
    dots = interactive.accuracy_by_parameter(rows, objective, mode, score)
    label = score.label(objective_label(Objective.parse(objective)), mode)
    sections.append(Section(title="Parallel coordinates", note=_LINES_NOTE, figure=lines))
    sections.append(Section(title=f"{label} by parameter", note=_DOTS_NOTE, figure=dots))
    found = _importances(importances, rows)
    bars = interactive.importance_bars(found.values, objective) if found.values else None
    if found.values:
        figures["importances"] = plots.importance_bars(found.values, objective)
    sections.append(Section(title="Importance of the parameters", note=found.reason or "", figure=bars))


_LINES_NOTE = "One line per configuration, darker is better. Drag along an axis to choose lines."
_DOTS_NOTE = "The star is the best configuration, triangles did not run to their end. Bars are ± std over seeds."


def _importances(source: ImportanceSource, rows: Sequence[Ranked]) -> Importances:
    if source is None:
        return Importances(reason="not computed")
    return source(rows) if callable(source) else Importances(values=source)


def _ranking_note(rows: Sequence[Ranked], objective: str, mode: str, scoring: Scoring, epochs: pa.Table) -> str:
    goal = Objective.parse(objective)
    order = "highest" if mode == "max" else "lowest"
    untested = "" if "test" in queries.scored_splits(epochs) else " The search never looked at the test images."
    ranks = "" if scoring.score.kind == "mean" else f" Configurations rank by {scoring.score.name(mode)} over seeds."
    rule = f" {terminal.rule_for(rows)}" if terminal.rule_for(rows) else ""
    return (
        f"{objective_label(goal)}, at the last epoch of each run, {order} first: the mean over the n runs of a "
        "configuration, which differ in the seed only, ± the sample standard deviation."
        f"{ranks}{rule}{untested} Runs that were stopped early count with the last epoch they reached. best peer, best "
        "test epoch is the published tables' figure."
    )


def _spec_yaml(runs: pa.Table, run_id: str) -> str:
    specs = dict(zip(runs["run_id"].to_pylist(), runs["spec"].to_pylist(), strict=True))
    return _to_yaml(specs[run_id])


def _to_yaml(spec_json: str) -> str:
    """Return a stored spec as YAML, with the fields in the order of `RunSpec`."""
    return reader.to_yaml(RunSpec.model_validate_json(spec_json).model_dump(mode="json"))


def _sweep_facts(sweep: Mapping[str, Any], rows: Sequence[Ranked], runs: pa.Table, scoring: Scoring) -> dict[str, str]:
    states: list[str] = runs["state"].to_pylist()
    counts = ", ".join(f"{states.count(state)} {state}" for state in ranking.STATES if state in states)
    facts = {"sweep": sweep["sweep_id"], "state": sweep["state"]}
    facts["objective"] = ", ".join([sweep["objective"], sweep["mode"], *(f"{cost}, min" for cost in scoring.costs)])
    seeds = f", {scoring.repeats} seeds each" if scoring.repeats > 1 else ""
    facts["trials"] = f"{len(rows)} configurations of {sweep['trials_planned']} planned{seeds}"
    facts["runs"] = f"{len(states)} ({counts or 'none'})"
    if rows and rows[0].value is not None:
        goal, best = Objective.parse(sweep["objective"]), rows[0]
        spread = "" if best.std is None else f" ± {goal.format(best.std)}"
        value = f"{goal.format(rows[0].value)}{spread} {goal.unit}".strip()
        facts["best"] = f"{value} (n={best.n}): {caption(best)}"
    return facts | describe_provenance(sweep)


def _best_facts(best: Ranked, runs: pa.Table, epochs: pa.Table) -> dict[str, str]:
    """Return name → text of the best configuration's figure and the published one, if there is a published one."""
    summary = ranking.summary(runs, epochs, best.run_ids[0])
    facts = describe_published(summary) if summary.published is not None else {}
    return {f"best: {name}": text for name, text in facts.items()}


def _write(folder: Path, figures: Mapping[str, Figure], content: str) -> list[Path]:
    ensure_writable(folder)
    written = [_save(figure, folder / f"{name}.png") for name, figure in figures.items()]
    write_atomically(folder / PAGE_FILE, content.encode())
    _remove_stale(folder, written)
    return [*written, folder / PAGE_FILE]


def _save(figure: Figure, path: Path) -> Path:
    plots.save(figure, path)
    return path


def _remove_stale(folder: Path, written: Iterable[Path]) -> None:
    """Remove figures of an earlier report that this one lacks, as they show results other than those of the page."""
    names = ("learning_curves", "parallel_coordinates", "importances", "accuracy_by_parameter", "pareto")
    for path in {folder / f"{name}.png" for name in names} - set(written):
        path.unlink(missing_ok=True)
