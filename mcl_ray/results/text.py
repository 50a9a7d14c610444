"""Tables in a terminal, with rich. What is in them is `tables.py`.

User strings are never read as markup.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mcl_ray.results.series import MEMBER_LABELS, Objective, short_names
from mcl_ray.results.tables import Ranked, RunSummary

LONGEST_REASON = 80


def parameters_of(rows: Sequence[Ranked]) -> list[str]:
    """Every searched parameter, in the order of first appearance."""
    return list(dict.fromkeys(name for row in rows for name in row.searched))


def setting(value: object) -> str:
    """A parameter's value, short enough for a column or a tick."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
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


def ranking_cells(rows: Sequence[Ranked], objective: str) -> tuple[list[str], list[list[str]]]:
    """Headers and cells of a ranking, for a terminal or a page."""
    figure, parameters = Objective.parse(objective), parameters_of(rows)
    names = short_names(parameters)
    headers = ["place", *(names[name] for name in parameters), f"{figure.label}, last epoch", "± std", "n"]
    headers += ["best peer, best test epoch (%)", "epochs", "state", "runs", "reason"]
    return headers, [_cells(row, figure, parameters) for row in rows]


def _cells(row: Ranked, figure: Objective, parameters: Sequence[str]) -> list[str]:
    return [
        "–" if row.place is None else str(row.place),
        *(setting(row.searched.get(name)) for name in parameters),
        "–" if row.value is None else figure.format(row.value),
        "–" if row.std is None else figure.format(row.std),
        str(row.n),
        "–" if row.best_peer_best_epoch is None else f"{row.best_peer_best_epoch:.2f}",
        str(row.epochs_done),
        row.state,
        " ".join(row.run_ids),
        shortened(row.reason or ""),
    ]


def ranking_table(rows: Sequence[Ranked], objective: str, mode: str) -> Table:
    """A ranking for the terminal, which is narrow: run ids are left to the page, and so is what says nothing here."""
    figure, parameters = Objective.parse(objective), parameters_of(rows)
    names = short_names(parameters)
    columns = {"place": [_told(row.place) for row in rows]}
    columns |= {names[path]: [_told(row.searched.get(path), ".3g") for row in rows] for path in parameters}
    columns["score, %" if figure.unit == "%" else "score"] = [_told(row.value, ".2f") for row in rows]
    columns["± std"] = [_told(row.std, ".2f") for row in rows]
    columns["n"] = [str(row.n) if any(other.n > 1 for other in rows) else "" for row in rows]
    columns |= {"epochs": [str(row.epochs_done) for row in rows], "state": [row.state for row in rows]}
    columns["reason"] = [shortened(row.reason or "") for row in rows]
    order = "highest" if mode == "max" else "lowest"
    title = f"{len(rows)} configurations by {figure.label} at the last epoch, {order} first"
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    told = {name: cells for name, cells in columns.items() if any(cell not in ("", "–") for cell in cells)}
    for name in told:
        justify: Literal["left", "right"] = "left" if name in ("state", "reason") else "right"
        table.add_column(Text(name), justify=justify, no_wrap=name != "reason")
    for cells in zip(*told.values(), strict=True):
        table.add_row(*map(Text, cells))
    return table


def _told(value: object, form: str = "") -> str:
    return format(value, form) if isinstance(value, float) else setting(value)


def summary_table(summary: RunSummary) -> Group:
    """The summary of a run for the terminal: accuracies, then one line about the published figure."""
    run = summary.run
    table = Table(
        title=Text(f"{run['run_id']}: {run['state']}, {run['epochs_done']} of {run['epochs_planned']} epochs")
    )
    for header in ("member", "split", "epoch", "top-1 (%)", "top-5 (%)"):
        table.add_column(header, justify="left" if header in ("member", "split") else "right")
    for score in summary.scores:
        top5 = "–" if score.top5 is None else f"{score.top5:.2f}"
        name = MEMBER_LABELS.get(score.member, score.member)
        table.add_row(name, score.split, str(score.epoch), f"{score.top1:.2f}", top5)
    return Group(table, *(Text(f"{name}: {told}") for name, told in run_facts(summary).items()))


def run_facts(summary: RunSummary) -> dict[str, str]:
    """What is said about a run besides its accuracies, by name."""
    run, facts = summary.run, {}
    if summary.best_peer_best_epoch is not None:
        peak = summary.best_peer_best_epoch
        facts["best_peer_best_epoch"] = f"{peak.value:.2f} % (test top-1, epoch {peak.epoch}, n=1 run)"
    if summary.published is not None:
        facts["published"] = f"{summary.published} % ({summary.published.label}, the same figure)"
    if summary.published is not None and summary.difference is not None:
        facts["difference"] = f"{summary.difference:+.2f} percentage points"
        if summary.published.deviations:
            facts["not the published setting"] = ", ".join(summary.published.deviations)
    if run["error_type"]:
        facts["error"] = f"{run['error_type']}: {run['error']}"
    return facts | origin(run)


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
