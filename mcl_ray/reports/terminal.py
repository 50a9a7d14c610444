"""Tables in a terminal, with rich. What is in them is `tables.py`.

User strings are never read as markup.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mcl_ray.analysis.costs import SHORT_LABELS, short_label, unit_of
from mcl_ray.analysis.ranking import Ranked, RunSummary, pareto_front
from mcl_ray.config.scoring import PLAIN, RULE, Scoring
from mcl_ray.results.queries import MEMBER_LABELS, Objective, short_names

LONGEST_REASON = 80
NARROWEST_HEADER, ROOMY_COLUMNS = 6, 11
WORDS = ("state", "reason", "configuration")
WRAPPED = ("reason", "configuration")


def parameters_of(rows: Sequence[Ranked]) -> list[str]:
    """Every searched parameter, in the order of first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row.searched))


def setting(value: object) -> str:
    """A parameter's value, short enough for a column or a tick."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(setting, value))}]"
    return value if isinstance(value, str) else json.dumps(value)


def duration(seconds: float) -> str:
    """`1 h 02 min`, `3 min 20 s`, `12.3 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def shortened(text: str, longest: int = LONGEST_REASON) -> str:
    """One line of at most `longest` characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def ranking_cells(
    rows: Sequence[Ranked], objective: str, mode: str = "max", scoring: Scoring = PLAIN
) -> tuple[list[str], list[list[str]]]:
    """Headers and cells of a ranking for a page."""
    figure, parameters = Objective.parse(objective), parameters_of(rows)
    names, form = short_names(parameters), figure.format
    columns = {"place": [_told(row.place) for row in rows]}
    columns |= {names[path]: [setting(row.searched.get(path)) for row in rows] for path in parameters}
    if scoring.score.kind != "mean":
        columns[f"{scoring.score.name(mode)} (ranks)"] = [_formatted(row.score, form) for row in rows]
    columns[f"{figure.label}, last epoch"] = [_formatted(row.value, form) for row in rows]
    columns["± std"] = [_formatted(row.std, form) for row in rows]
    columns["n"] = [_seeds(row) for row in rows]
    columns |= _cost_columns(rows, scoring.costs)
    columns |= {"Pareto front": _marks(rows, mode, scoring.costs)} if scoring.costs else {}
    columns["best peer, best test epoch (%)"] = [_formatted(row.best_peer_best_epoch, "{:.2f}".format) for row in rows]
    columns |= {"epochs": [str(row.epochs_done) for row in rows], "state": [row.state for row in rows]}
    columns |= {"runs": [" ".join(row.run_ids) for row in rows]}
    columns["reason"] = [shortened(row.reason or "") for row in rows]
    return list(columns), [list(cells) for cells in zip(*columns.values(), strict=True)]


def ranking_table(rows: Sequence[Ranked], objective: str, mode: str, scoring: Scoring = PLAIN) -> Table:
    """A ranking for the terminal, which is narrow: run ids are left to the page, and so is what says nothing here."""
    figure, parameters, repeated = Objective.parse(objective), parameters_of(rows), _repeated(rows)
    names, percent = short_names(parameters), ", %" if figure.unit == "%" else ""
    marks = _marks(rows, mode, scoring.costs)
    columns = {"place": [_told(row.place) + mark for row, mark in zip(rows, marks, strict=True)]}
    columns |= {names[path]: [_told(row.searched.get(path), ".3g") for row in rows] for path in parameters}
    if scoring.score.kind != "mean":
        columns[f"{scoring.score.name(mode)}{percent}"] = [_told(row.score, ".2f") for row in rows]
    columns[f"{'mean' if repeated else 'score'}{percent}"] = [_told(row.value, ".2f") for row in rows]
    columns["± std"] = [_told(row.std, ".2f") for row in rows]
    columns["n"] = [_seeds(row) if repeated else "" for row in rows]
    columns |= _cost_columns(rows, scoring.costs)
    columns |= {"epochs": [str(row.epochs_done) for row in rows], "state": [row.state for row in rows]}
    columns["reason"] = [shortened(row.reason or "") for row in rows]
    order = "highest" if mode == "max" else "lowest"
    title = f"{len(rows)} configurations by {scoring.score.label(figure.label, mode)} at the last epoch, {order} first"
    return _table(f"{title}; * on the Pareto front" if scoring.costs else title, columns, rule_for(rows))


def front_table(rows: Sequence[Ranked], objective: str, mode: str, scoring: Scoring) -> Table:
    """The Pareto front for the terminal: what no other configuration beats in both score and costs."""
    figure, front = Objective.parse(objective), pareto_front(rows, scoring.costs, mode)
    score = f"{scoring.score.name(mode) if _repeated(rows) else 'score'}{', %' if figure.unit else ''}"
    columns = {"place": [_told(row.place) for row in front], score: [_told(row.score, ".2f") for row in front]}
    columns |= {"± std": [_told(row.std, ".2f") for row in front], "n": [_seeds(row) for row in front]}
    columns |= _cost_columns(front, scoring.costs) | {"configuration": [caption(row) for row in front]}
    return _table(front_title(rows, front, mode, scoring.costs), columns)


def front_title(rows: Sequence[Ranked], front: Sequence[Ranked], mode: str, costs: Sequence[str]) -> str:
    """What the front is of, and how many are on it."""
    goals = [f"score ({'up' if mode == 'max' else 'down'})", *(f"{SHORT_LABELS[cost]} (down)" for cost in costs)]
    return f"Pareto front of {', '.join(goals)}: {len(front)} of {len(rows)} configurations"


def rule_for(rows: Sequence[Ranked]) -> str:
    """The rule for partial failure, where it was needed."""
    return RULE if any(row.num_planned > 1 and row.reason for row in rows) else ""


def caption(row: Ranked) -> str:
    """A configuration in one line."""
    names = short_names(list(row.searched))
    return ", ".join(f"{names[name]}={setting(value)}" for name, value in row.searched.items())


def _table(title: str, columns: Mapping[str, Sequence[str]], note: str = "") -> Table:
    told = {name: cells for name, cells in columns.items() if any(cell not in ("", "–") for cell in cells)}
    gap = (0, 1 if len(told) <= ROOMY_COLUMNS else 0, 0, 0)
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=gap)
    table.caption, table.caption_justify = Text(note) if note else None, "left"
    for name in told:
        justify: Literal["left", "right"] = "left" if name in WORDS else "right"
        header = textwrap.fill(name, max(NARROWEST_HEADER, *map(len, told[name])), break_long_words=False)
        table.add_column(Text(header), justify=justify, no_wrap=name not in WRAPPED)
    for cells in zip(*told.values(), strict=True):
        table.add_row(*map(Text, cells))
    return table


def _cost_columns(rows: Sequence[Ranked], costs: Sequence[str]) -> dict[str, list[str]]:
    columns: dict[str, list[str]] = {}
    for cost in costs:
        unit = unit_of(cost, [row.costs[cost] for row in rows if cost in row.costs])
        columns[short_label(cost, unit)] = [
            f"{row.costs[cost] / unit.size:.4g}" if cost in row.costs else "–" for row in rows
        ]
    return columns


def _marks(rows: Sequence[Ranked], mode: str, costs: Sequence[str]) -> list[str]:
    """A star for each row on the front; without costs there is none."""
    front = {id(row) for row in pareto_front(rows, costs, mode)} if costs else set()
    return ["*" if id(row) in front else "" for row in rows]


def _repeated(rows: Sequence[Ranked]) -> bool:
    return any(max(row.n, row.num_planned) > 1 for row in rows)


def _seeds(row: Ranked) -> str:
    return str(row.n) if row.n >= row.num_planned else f"{row.n}/{row.num_planned}"


def _formatted(value: float | None, form: Callable[[float], str]) -> str:
    return "–" if value is None else form(value)


def _told(value: object, form: str = "") -> str:
    return format(value, form) if isinstance(value, float) else setting(value)


def summary_table(summary: RunSummary) -> Group:
    """The summary of a run for the terminal: accuracies, then one line about the published figure."""
    run = summary.run
    table = Table(
        title=Text(f"{run['run_id']}: {run['state']}, {run['epochs_done']} of {run['epochs_planned']} epochs")
    )
    for header in summary.headers:
        table.add_column(header, justify="left" if header in ("member", "split") else "right")
    for score in summary.scores:
        top5 = "–" if score.top5 is None else f"{score.top5:.2f}"
        name = MEMBER_LABELS.get(score.member, score.member)
        table.add_row(name, score.split, str(score.epoch), f"{score.top1:.2f}", top5)
    return Group(table, *(Text(f"{name}: {told}") for name, told in run_facts(summary).items()))


def stages_table(stages: Sequence[RunSummary]) -> Group:
    """Runs that build on each other in one table: each member's top-1 in each of them, at the last epoch."""
    members = dict.fromkeys(score.member for stage in stages for score in stage.scores)
    table = Table(title=Text(" + ".join(stage.run["run_id"] for stage in stages)))
    table.add_column("member")
    columns = []
    for stage in stages:
        for split in dict.fromkeys(score.split for score in stage.scores):
            table.add_column(f"{stage.run['recipe']}, {split}, {stage.headers[-2]}", justify="right")
            columns.append({score.member: f"{score.top1:.2f}" for score in stage.scores if score.split == split})
    for member in members:
        table.add_row(MEMBER_LABELS.get(member, member), *(column.get(member, "–") for column in columns))
    facts = [(stage.run["recipe"], name, told) for stage in stages for name, told in published_facts(stage).items()]
    return Group(table, *(Text(f"{recipe}: {name}: {told}") for recipe, name, told in facts))


def run_facts(summary: RunSummary) -> dict[str, str]:
    """What is said about a run besides its accuracies, by name."""
    run, facts = summary.run, published_facts(summary)
    if run["error_type"]:
        facts["error"] = f"{run['error_type']}: {run['error']}"
    return facts | origin(run)


def published_facts(summary: RunSummary) -> dict[str, str]:
    """The published tables' figure, and theirs beside it."""
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


def origin(row: Mapping[str, Any]) -> dict[str, str]:
    """Where a run or a sweep was made, and how long it took."""
    facts = {"hardware": f"{row['hardware']} ({row['host']})", "code": row["code_version"]}
    if row.get("torch_version"):
        facts["torch"] = row["torch_version"]
    if row.get("parameters") is not None:
        facts["parameters"] = f"{row['parameters']:,} in the cohort"
    if row.get("multiply_adds") is not None:
        facts["multiply-adds"] = f"{row['multiply_adds']:,} per image in the cohort"
    return facts | {"started": f"{row['started_at']:%Y-%m-%d %H:%M:%S} UTC", "wall time": duration(row["wall_time_s"])}
