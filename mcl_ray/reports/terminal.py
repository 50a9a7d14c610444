"""Tables of rankings and runs for a terminal, with rich. Rows come from `mcl_ray.analysis`.

User strings are never parsed as markup.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mcl_ray.analysis.ranking import Ranked, RunSummary, pareto_front
from mcl_ray.config.scoring import PLAIN, RULE, Scoring
from mcl_ray.reports.fitting import Fitting
from mcl_ray.reports.labels import (
    MEMBER_LABELS,
    NO_VALUE,
    SHORT_COST_LABELS,
    caption,
    cost_header,
    duration,
    objective_label,
    parameters_of,
    setting,
    short_names,
    shortened,
    unit_of,
)
from mcl_ray.reports.sample import listed, listed_note
from mcl_ray.results.queries import Objective

MIN_HEADER_WIDTH = 6
MAX_SPACED_COLUMNS = 10
"""More columns than this stand without a space between them."""
MAX_COLUMNS_BESIDE_REASONS = 8
"""With more columns the reasons stand below the table, as there would be no room for them in 80 characters."""
LEFT_ALIGNED = ("state", "reason", "configuration")
WRAPPED = ("reason", "configuration")


def ranking_cells(
    rows: Sequence[Ranked], objective: str, mode: str = "max", scoring: Scoring = PLAIN
) -> tuple[list[str], list[list[str]]]:
    """Return the headers and the cells of a ranking for a page; of very many configurations, of the first ones."""
    goal, parameters = Objective.parse(objective), parameters_of(rows)
    front, rows = _front_of(rows, mode, scoring.costs), listed(rows)
    names, form = short_names(parameters), goal.format
    columns = {"place": [_place(row) for row in rows]}
    columns |= {names[path]: [setting(row.searched.get(path)) for row in rows] for path in parameters}
    if scoring.score.kind != "mean":
        columns[f"{scoring.score.name(mode)} (ranks)"] = [_formatted(row.score, form) for row in rows]
    columns[f"{objective_label(goal)}, last epoch"] = [_at_its_epoch(row, form) for row in rows]
    columns["± std"] = [_formatted(row.std, form) for row in rows]
    columns["n"] = [_seeds(row) for row in rows]
    columns |= _cost_columns(rows, scoring.costs)
    columns |= {"Pareto front": _marks(rows, front)} if scoring.costs else {}
    columns["best peer, best test epoch (%)"] = [_formatted(row.best_peer_best_epoch, "{:.2f}".format) for row in rows]
    columns |= {"epochs": [str(row.epochs_done) for row in rows], "state": [row.state for row in rows]}
    columns |= {"runs": [" ".join(row.run_ids) for row in rows]}
    columns["reason"] = [shortened(row.reason or "") for row in rows]
    return list(columns), [list(cells) for cells in zip(*columns.values(), strict=True)]


def ranking_table(rows: Sequence[Ranked], objective: str, mode: str, scoring: Scoring = PLAIN) -> Fitting:
    """Return a ranking for a terminal: without run ids, and without columns that are empty.

    Searched fields have a column each or, where these do not fit, one in common. Of very many configurations, only the
    first ones are listed.
    """
    tried, front = sum(not row.is_compared for row in rows), _front_of(rows, mode, scoring.costs)
    of_many, rows = listed_note(len(rows)), listed(rows)
    goal, parameters, has_repeats = Objective.parse(objective), parameters_of(rows), _has_repeats(rows)
    names, percent = short_names(parameters), ", %" if goal.unit == "%" else ""
    marks = _marks(rows, front)
    places = {"place": [_place(row) + mark for row, mark in zip(rows, marks, strict=True)]}
    fields = {names[path]: [_cell(row.searched.get(path), ".3g") for row in rows] for path in parameters}
    columns: dict[str, list[str]] = {}
    if scoring.score.kind != "mean":
        columns[f"{scoring.score.name(mode)}{percent}"] = [_cell(row.score, ".2f") for row in rows]
    columns[f"{'mean' if has_repeats else 'score'}{percent}"] = [_cell(row.value, ".2f") for row in rows]
    columns["± std"] = [_cell(row.std, ".2f") for row in rows]
    columns["n"] = [_seeds(row) if has_repeats else "" for row in rows]
    columns |= _cost_columns(rows, scoring.costs)
    columns["epochs"] = [str(row.epochs_done) for row in rows]
    states, below = _states_with_notes(rows)
    if len(places | fields | columns) >= MAX_COLUMNS_BESIDE_REASONS:
        columns["state"], notes = states, below
    else:
        columns["state"] = [row.state for row in rows]
        columns["reason"], notes = [shortened(row.reason or "") for row in rows], []
    order = "highest" if mode == "max" else "lowest"
    score = scoring.score.label(objective_label(goal), mode)
    title = f"{tried} configuration{'' if tried == 1 else 's'} by {score} at the last epoch, {order} first"
    title += "; * on the Pareto front" if scoring.costs else ""
    wide = _table(title, places | fields | columns, _notes(*notes, of_many, rule_for(rows)))
    columns |= {"state": states, "reason": [], "configuration": _configurations(fields)}
    narrow = _table(title, places | columns, _notes(*below, of_many, rule_for(rows)))
    return Fitting((wide, narrow))


def _notes(*notes: str | None) -> str:
    return "\n".join(filter(None, notes))


def _configurations(fields: Mapping[str, Sequence[str]]) -> list[str]:
    """Return each configuration as text, from the cells of its fields: `alpha=0.1, cohort size=2`."""
    return [
        ", ".join(f"{name}={cell}" for name, cell in zip(fields, cells, strict=True) if cell != NO_VALUE)
        for cells in zip(*fields.values(), strict=True)
    ]


def _states_with_notes(rows: Sequence[Ranked]) -> tuple[list[str], list[str]]:
    """Return the state of each row, with the number of a note where a reason is known, and the notes."""
    reasons = list(dict.fromkeys(row.reason for row in rows if row.reason))
    numbers = {reason: number for number, reason in enumerate(reasons, start=1)}
    states = [f"{row.state} ({numbers[row.reason]})" if row.reason else row.state for row in rows]
    return states, [f"({number}) {shortened(reason)}" for reason, number in numbers.items()]


def front_table(rows: Sequence[Ranked], objective: str, mode: str, scoring: Scoring) -> Table:
    """Return the configurations on the Pareto front of score and costs, for a terminal."""
    goal, front = Objective.parse(objective), pareto_front(rows, scoring.costs, mode)
    score = f"{scoring.score.name(mode) if _has_repeats(rows) else 'score'}{', %' if goal.unit else ''}"
    columns = {"place": [_cell(row.place) for row in front], score: [_cell(row.score, ".2f") for row in front]}
    columns |= {"± std": [_cell(row.std, ".2f") for row in front], "n": [_seeds(row) for row in front]}
    columns |= _cost_columns(front, scoring.costs) | {"configuration": [caption(row) for row in front]}
    return _table(front_title(rows, front, mode, scoring.costs), columns)


def front_title(rows: Sequence[Ranked], front: Sequence[Ranked], mode: str, costs: Sequence[str]) -> str:
    """Return the title of the front: its goals, and the number of configurations on it."""
    goals = [f"score ({'up' if mode == 'max' else 'down'})", *(f"{SHORT_COST_LABELS[cost]} (down)" for cost in costs)]
    tried = sum(not row.is_compared for row in rows)
    return f"Pareto front of {', '.join(goals)}: {len(front)} of {tried} configurations"


def rule_for(rows: Sequence[Ranked]) -> str:
    """Return the rule for seeds that failed, if any configuration lacks some; otherwise an empty text."""
    return RULE if any(row.num_planned > 1 and row.reason for row in rows) else ""


def _table(title: str, columns: Mapping[str, Sequence[str]], note: str = "") -> Table:
    filled = {name: cells for name, cells in columns.items() if any(cell not in ("", NO_VALUE) for cell in cells)}
    gap = (0, 1 if len(filled) <= MAX_SPACED_COLUMNS else 0, 0, 0)
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=gap)
    table.caption, table.caption_justify = Text(note) if note else None, "left"
    for name in filled:
        justify: Literal["left", "right"] = "left" if name in LEFT_ALIGNED else "right"
        header = textwrap.fill(name, max(MIN_HEADER_WIDTH, *map(len, filled[name])), break_long_words=False)
        table.add_column(Text(header), justify=justify, no_wrap=name not in WRAPPED)
    for cells in zip(*filled.values(), strict=True):
        table.add_row(*map(Text, cells))
    return table


def _cost_columns(rows: Sequence[Ranked], costs: Sequence[str]) -> dict[str, list[str]]:
    columns: dict[str, list[str]] = {}
    for cost in costs:
        unit = unit_of(cost, [row.costs[cost] for row in rows if cost in row.costs])
        columns[cost_header(cost, unit)] = [
            f"{row.costs[cost] / unit.size:.4g}" if cost in row.costs else NO_VALUE for row in rows
        ]
    return columns


def _front_of(rows: Sequence[Ranked], mode: str, costs: Sequence[str]) -> set[int]:
    """Return the identities of the rows on the front; none without costs."""
    return {id(row) for row in pareto_front(rows, costs, mode)} if costs else set()


def _marks(rows: Sequence[Ranked], front: Collection[int]) -> list[str]:
    """Return a star for each row on the front."""
    return ["*" if id(row) in front else "" for row in rows]


def _at_its_epoch(row: Ranked, form: Callable[[float], str]) -> str:
    """Return the value, with its epoch if the configuration did not train to the end."""
    value = _formatted(row.value, form)
    return value if row.value is None or row.state == "finished" else f"{value} (epoch {row.epochs_done})"


def _place(row: Ranked) -> str:
    return row.trial_id or "" if row.is_compared else _cell(row.place)


def _has_repeats(rows: Sequence[Ranked]) -> bool:
    return any(max(row.n, row.num_planned) > 1 for row in rows)


def _seeds(row: Ranked) -> str:
    return str(row.n) if row.n >= row.num_planned else f"{row.n}/{row.num_planned}"


def _formatted(value: float | None, form: Callable[[float], str]) -> str:
    return NO_VALUE if value is None else form(value)


def _cell(value: object, form: str = "") -> str:
    return format(value, form) if isinstance(value, float) else setting(value)


def summary_table(summary: RunSummary) -> Group:
    """Return the summary of a run for a terminal: accuracies, the published figure, and the provenance."""
    run = summary.run
    table = Table(
        title=Text(f"{run['run_id']}: {run['state']}, {run['epochs_done']} of {run['epochs_planned']} epochs")
    )
    for header in summary.headers:
        table.add_column(header, justify="left" if header in ("member", "split") else "right")
    for score in summary.scores:
        top5 = NO_VALUE if score.top5 is None else f"{score.top5:.2f}"
        name = MEMBER_LABELS.get(score.member, score.member)
        table.add_row(name, score.split, str(score.epoch), f"{score.top1:.2f}", top5)
    return Group(table, *(Text(f"{name}: {text}") for name, text in describe_run(summary).items()))


def stages_table(stages: Sequence[RunSummary]) -> Group:
    """Return the runs of a pipeline in one table: each member's top-1 in each of them, at the last epoch."""
    members = dict.fromkeys(score.member for stage in stages for score in stage.scores)
    table = Table(title=Text(" + ".join(stage.run["run_id"] for stage in stages)))
    table.add_column("member")
    columns = []
    for stage in stages:
        for split in dict.fromkeys(score.split for score in stage.scores):
            table.add_column(f"{stage.run['recipe']}, {split}, {stage.headers[-2]}", justify="right")
            columns.append({score.member: f"{score.top1:.2f}" for score in stage.scores if score.split == split})
    for member in members:
        table.add_row(MEMBER_LABELS.get(member, member), *(column.get(member, NO_VALUE) for column in columns))
    facts = [(stage.run["recipe"], fact) for stage in stages for fact in describe_published(stage).items()]
    return Group(table, *(Text(f"{recipe}: {name}: {text}") for recipe, (name, text) in facts))


def describe_run(summary: RunSummary) -> dict[str, str]:
    """Return name → text of what is shown of a run besides its accuracies."""
    run, facts = summary.run, describe_published(summary)
    if run["error_type"]:
        facts["error"] = f"{run['error_type']}: {run['error']}"
    return facts | describe_provenance(run)


def describe_published(summary: RunSummary) -> dict[str, str]:
    """Return name → text of a run's figure in the published tables' terms, and of the published figure beside it."""
    facts = {}
    if summary.best_peer_best_epoch is not None:
        peak = summary.best_peer_best_epoch
        facts["best_peer_best_epoch"] = f"{peak.value:.2f} % (test top-1, epoch {peak.epoch}, n=1 run)"
    if summary.published is not None:
        facts["published"] = f"{summary.published} % ({summary.published.label}, the same figure)"
    if summary.difference is not None:
        facts["difference"] = f"{summary.difference:+.2f} percentage points"
    if summary.published is not None and summary.best_peer_best_epoch is not None and summary.published.deviations:
        facts["not the published setting"] = ", ".join(summary.published.deviations)
    return facts


def describe_provenance(row: Mapping[str, Any]) -> dict[str, str]:
    """Return name → text of the machine, the code and the wall time of a run or a sweep."""
    facts = {"hardware": f"{row['hardware']} ({row['host']})", "code": row["code_version"]}
    if row.get("torch_version"):
        facts["torch"] = row["torch_version"]
    if row.get("parameters") is not None:
        facts["parameters"] = f"{row['parameters']:,} in the cohort"
    if row.get("multiply_adds") is not None:
        facts["multiply-adds"] = f"{row['multiply_adds']:,} per image in the cohort"
    return facts | {"started": f"{row['started_at']:%Y-%m-%d %H:%M:%S} UTC", "wall time": duration(row["wall_time_s"])}
