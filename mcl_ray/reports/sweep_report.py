"""The report of a sweep: ranking, Pareto front, learning curves, figures of the searched parameters, best spec.

Importances are an argument, as they are computed in `searches`, which this package does not import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from mcl_ray.analysis.importance import Importances, at_common_epoch
from mcl_ray.analysis.ranking import STATES, Ranked, pareto_front, summary
from mcl_ray.analysis.roles import BASELINE
from mcl_ray.analysis.sweep_ranking import SweepRanking, rank_sweep
from mcl_ray.reports import interactive, interactive_pareto, interactive_trials, plots, run_links
from mcl_ray.reports.axes import scored
from mcl_ray.reports.improvement import figure_text, improvement_line
from mcl_ray.reports.labels import (
    NO_VALUE,
    caption,
    duration,
    objective_label,
    parameters_of,
    short_names,
    shortened,
)
from mcl_ray.reports.page import Cell, Link, Section
from mcl_ray.reports.pareto import priced
from mcl_ray.reports.report import Part, Report, spec_part
from mcl_ray.reports.sample import drawn, drawn_note, listed, listed_note
from mcl_ray.reports.terminal import describe_provenance, describe_published, front_title, ranking_cells, rule_for
from mcl_ray.reports.trials import CURVES_NOTE, HISTORY_NOTE, rungs_text, trials_of
from mcl_ray.results import queries
from mcl_ray.results.queries import scored_splits
from mcl_ray.results.reader import BEST_FILE
from mcl_ray.results.warm_start import read_warm_start

ImportanceSource = Callable[[Sequence[Ranked]], Importances] | Mapping[str, float] | None
"""A function from configurations with figures at one epoch to importances; or parameter → share.

The function is `searches.importance.importances`."""

FRONT_NOTE = (
    "No configuration is as good as one on the front in everything and better in something. A number in the figure is "
    "a place in the ranking, bars are ± std over seeds, and the line is the best score to be had at this cost or less, "
    "whatever the other costs are."
)
LINES_NOTE = "One line per configuration; the more it stands out, the better. Drag along an axis to choose lines."
DOTS_NOTE = (
    "The star is the best configuration; triangles did not run to their end, with the epoch of their figure beside "
    "them. Bars are ± std over seeds."
)


def sweep_report(folder: Path, importances: ImportanceSource = None, ranked: SweepRanking | None = None) -> Report:
    """Return the report of the sweep in a folder.

    Args:
        folder: Folder of the sweep.
        importances: Importances of the searched parameters, or a function that computes them.
        ranked: Ranking of the sweep, if it was read before.

    Raises:
        StoreError: the folder holds no sweep, or a damaged one.
    """
    ranked = ranked or rank_sweep(folder)
    parts, facts = [_ranking(ranked)], _facts(ranked)
    computed: Importances | None = None
    if ranked.best is not None:
        if ranked.scoring.costs and priced(ranked.rows, ranked.scoring.costs):
            parts.append(_front(ranked))
        parts += [_curves(ranked, ranked.best), *_trials(ranked)]
        if parameters_of(ranked.rows):
            computed = _computed(importances, ranked)
            parts += [_parallel_coordinates(ranked), _accuracy_by_parameter(ranked), _importances(ranked, computed)]
        parts.append(_best_spec(folder, ranked, ranked.best))
        parts.append(_runs(ranked))
        facts |= _published_facts(ranked, ranked.best)
    if earlier := read_warm_start(folder):
        facts["warm start"] = "; ".join(map(str, earlier))
    found = ranked.improvement
    first = {} if found is None else {"result": improvement_line(found, ranked.objective)}
    return Report(title=f"Sweep {ranked.sweep['name']}", facts=first | facts, parts=parts, importances=computed)


def _facts(ranked: SweepRanking) -> dict[str, str]:
    sweep, scoring, states = ranked.sweep, ranked.scoring, ranked.runs["state"].to_pylist()
    counts = ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)
    tried = sum(not row.is_compared for row in ranked.rows)
    seeds = f", {scoring.repeats} seeds each" if scoring.repeats > 1 else ""
    facts = {
        "sweep": sweep["sweep_id"],
        "state": sweep["state"],
        "objective": ", ".join([ranked.objective, ranked.mode, *(f"{cost}, min" for cost in scoring.costs)]),
        "trials": f"{tried} configurations of {sweep['trials_planned']} planned{seeds}",
        "runs": f"{len(states)} ({counts or 'none'})",
    }
    best, goal = ranked.best, ranked.goal
    if best is not None and best.value is not None:
        facts["best"] = f"{figure_text(best, goal)}: {caption(best)}"
    return facts | describe_provenance(sweep)


def _published_facts(ranked: SweepRanking, best: Ranked) -> dict[str, str]:
    """Return name → text of the best configuration's figure and the published one, if there is a published one."""
    found = summary(ranked.runs, ranked.epochs, best.run_ids[0])
    facts = describe_published(found) if found.published is not None else {}
    return {f"best: {name}": text for name, text in facts.items()}


def _ranking(ranked: SweepRanking) -> Part:
    headers, cells = ranking_cells(ranked.rows, ranked.objective, ranked.mode, ranked.scoring)
    linked = _linked(headers, cells, ranked)
    return Part(section=Section(title="Ranking", note=_ranking_note(ranked), headers=headers, cells=linked))


def _linked(headers: Sequence[str], cells: Sequence[Sequence[str]], ranked: SweepRanking) -> list[list[Cell]]:
    """Return the cells of a ranking in which each run leads, by its trial and seed, to its row among the runs."""
    column, prefix = headers.index("runs"), f"{ranked.sweep['sweep_id']}-"

    def links(run_ids: str) -> list[Link]:
        return [Link(run_id.removeprefix(prefix), f"#{run_id}") for run_id in run_ids.split()]

    return [[*row[:column], links(row[column]), *row[column + 1 :]] for row in cells]


def _runs(ranked: SweepRanking) -> Part:
    """Return the runs of the sweep, to which the ranking leads."""
    curves = queries.points(ranked.epochs, ranked.goal)
    headers = ("run", "seed", "state", "epochs", objective_label(ranked.goal), "wall time", "machine", "reason")
    shown = listed(ranked.rows)
    is_part = len(shown) < len(ranked.rows)
    runs = queries.of_runs(ranked.runs, [run_id for row in shown for run_id in row.run_ids]) if is_part else ranked.runs
    rows = runs.to_pylist()
    cells: list[list[Cell]] = [
        [
            [Link(row["run_id"], run_links.folder_link(row["run_id"]))],
            str(row["seed"]),
            row["state"],
            f"{row['epochs_done']}/{row['epochs_planned']}",
            ranked.goal.format(curves[row["run_id"]][-1].value) if row["run_id"] in curves else NO_VALUE,
            duration(row["wall_time_s"]),
            row["host"],
            shortened(row["error"] or ""),
        ]
        for row in rows
    ]
    ids = [row["run_id"] for row in rows]
    return Part(section=Section(title="Runs", note=run_links.NOTE, headers=headers, cells=cells, row_ids=ids))


def _trials(ranked: SweepRanking) -> list[Part]:
    """Return the learning curves of all trials, and the optimisation history."""
    trials, goal = trials_of(ranked), ranked.goal
    sampled = drawn_note(len(scored(ranked.rows)))
    note = " ".join(filter(None, [CURVES_NOTE, rungs_text(ranked.rungs), sampled]))
    curves = (trials, ranked.rungs, goal)
    baseline = next((row for row in ranked.rows if row.trial_id == BASELINE), None)
    order = (trials, baseline, goal, ranked.mode, ranked.scoring.score)
    figures = [interactive_trials.trial_curves(*curves)]
    of_all = Section(title="Learning curves of all trials", note=note, figures=figures)
    history_note = f"{HISTORY_NOTE} {sampled}".strip()
    in_order = Section(title="Optimisation history", note=history_note, figures=[interactive_trials.history(*order)])
    return [
        Part(section=of_all, figures={"trial_curves": plots.trial_curves(*curves)}),
        Part(section=in_order, figures={"history": plots.history(*order)}),
    ]


def _ranking_note(ranked: SweepRanking) -> str:
    score, order = ranked.scoring.score, "highest" if ranked.mode == "max" else "lowest"
    untested = "" if "test" in scored_splits(ranked.epochs) else " The search never looked at the test images."
    ranks = "" if score.kind == "mean" else f" Configurations rank by {score.name(ranked.mode)} over seeds."
    rules = "".join(f" {text}" for text in (listed_note(len(ranked.rows)), rule_for(ranked.rows)) if text)
    return (
        f"{objective_label(ranked.goal)}, at the last epoch of each run, {order} first: the mean over the n runs of a "
        "configuration, which differ in the seed only, ± the sample standard deviation."
        f"{ranks}{rules}{untested} Configurations that were stopped early follow those that trained to the end, with "
        "the epoch of their figure. best peer, best test epoch is the published tables' figure."
    )


def _front(ranked: SweepRanking) -> Part:
    rows, objective, mode, scoring = ranked.rows, ranked.objective, ranked.mode, ranked.scoring
    front = pareto_front(rows, scoring.costs, mode)
    headers, cells = ranking_cells(front, objective, mode, scoring)
    sampled = drawn_note(len(priced(rows, scoring.costs)))
    rows_drawn = drawn(priced(rows, scoring.costs), front)
    section = Section(
        title="Pareto front",
        note=f"{front_title(rows, front, mode, scoring.costs)}. {FRONT_NOTE} {sampled}".strip(),
        headers=headers,
        cells=_linked(headers, cells, ranked),
        figures=[interactive_pareto.pareto(rows_drawn, objective, mode, scoring)],
    )
    return Part(section=section, figures={"pareto": plots.pareto(rows_drawn, objective, mode, scoring)})


def _curves(ranked: SweepRanking, best: Ranked) -> Part:
    legend = plots.seeds_legend(len(best.run_ids))
    section = Section(
        title="Learning curves of the best configuration" if legend else "Learning curves of the best run",
        note=" ".join([f"{legend}." if legend else "", " ".join(best.run_ids)]).strip(),
        figures=[interactive.learning_curves(ranked.best_epochs, best.run_ids)],
    )
    figure = plots.learning_curves(ranked.best_epochs, best.run_ids, caption(best))
    return Part(section=section, figures={"learning_curves": figure})


def _parallel_coordinates(ranked: SweepRanking) -> Part:
    rows = scored(ranked.rows)
    shown = (drawn(rows), ranked.objective, ranked.mode, ranked.scoring.score, ranked.log_fields)
    figures = [interactive.parallel_coordinates(*shown)]
    width = 180 + 110 * len(parameters_of(ranked.rows))
    note = f"{LINES_NOTE} {drawn_note(len(rows))}".strip()
    section = Section(title="Parallel coordinates", note=note, figures=figures, figure_width=width, is_scrolled=True)
    return Part(section=section, figures={"parallel_coordinates": plots.parallel_coordinates(*shown, len(ranked.rows))})


def _accuracy_by_parameter(ranked: SweepRanking) -> Part:
    rows = scored(ranked.rows)
    shown = (drawn(rows), ranked.objective, ranked.mode, ranked.scoring.score, ranked.log_fields)
    label = ranked.scoring.score.label(objective_label(ranked.goal), ranked.mode)
    figures = interactive.accuracy_by_parameter(*shown)
    note = f"{DOTS_NOTE} {drawn_note(len(rows))}".strip()
    section = Section(title=f"{label} by parameter", note=note, figures=figures)
    return Part(section=section, figures={"accuracy_by_parameter": plots.accuracy_by_parameter(*shown)})


def _importances(ranked: SweepRanking, found: Importances) -> Part:
    bars = [interactive.importance_bars(found.values, ranked.objective)] if found.values else []
    figures: dict[str, Figure] = {}
    if found.values:
        figures["importances"] = plots.importance_bars(found.values, ranked.objective)
    return Part(
        section=Section(title="Importance of the parameters", note=_importances_note(found), figures=bars),
        figures=figures,
    )


def _importances_note(found: Importances) -> str:
    if found.reason is not None:
        return found.reason
    names = short_names([*found.values, *found.indistinct])
    compared = f"From the figures of {found.n} configurations at epoch {found.epoch}. " if found.n else ""
    others = ", ".join(names[name] for name in found.indistinct)
    return f"{compared}{f'Not distinguishable from noise: {others}.' if others else ''}".strip()


def _computed(source: ImportanceSource, ranked: SweepRanking) -> Importances:
    """Return the importances, of figures at one epoch, as a trial that was stopped early has none at the last."""
    if source is None:
        return Importances(reason="not computed")
    if not callable(source):
        return Importances(values=source)
    scoring = ranked.scoring
    rows = at_common_epoch(
        ranked.rows, ranked.runs, ranked.epochs, ranked.objective, ranked.mode, scoring.score, scoring.repeats
    )
    return source(rows)


def _best_spec(folder: Path, ranked: SweepRanking, best: Ranked) -> Part:
    """Return the section of `best.yaml` or, of a sweep without one, of the best run's spec."""
    file = folder / BEST_FILE
    if ranked.sweep["state"] == "finished" and file.is_file():
        return Part(section=Section(title="Best spec", code=file.read_text()))
    (spec,) = queries.of_run(ranked.runs, best.run_ids[0])["spec"].to_pylist()
    return spec_part("Best spec", spec)
