"""Tables of several runs for a terminal: a list with scores and tags, and a comparison of specs and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.table import Table
from rich.text import Text

from mcl_ray.analysis.ranking import MemberScore, RunSummary, summary
from mcl_ray.config.effects import acting
from mcl_ray.reports.fitting import Fitting
from mcl_ray.reports.labels import MEMBER_LABELS, NO_VALUE, duration, setting
from mcl_ray.results import queries
from mcl_ray.results.queries import Objective
from mcl_ray.results.reader import read_epochs, read_runs, read_spec, run_folders
from mcl_ray.results.tags import read_tags

MEMBERS = ("mean", "peer0")
"""Members whose last accuracy is listed, the first that a run has: the mean of peers, or the only peer."""
COLUMNS = ["run_id", "state", "epochs_done", "epochs_planned", "started_at", "wall_time_s"]
"""Columns of the table of runs that are listed."""
SPLITS = {"test": "test", "validation": "valid."}
"""Split → its name in the list; the accuracy of the first one that a run has is listed."""


def runs_table(results: Path, *, tag: str | None = None, state: str | None = None) -> Table:
    """Return a row for each run below a folder, oldest first: state, epochs, last accuracy, times and tags.

    Args:
        results: Folder of a run, of a sweep, or of results.
        tag: Lists only runs that have this tag.
        state: Lists only runs in this state.

    Raises:
        StoreError: `results` holds no results, or damaged ones.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("run", no_wrap=True)  # it is what the other commands are given
    for header in ("state", "epochs", "top-1", "of"):
        table.add_column(header, no_wrap=True)
    table.add_column("started (UTC)", min_width=len("2026-01-01"))
    for header in ("time", "tags"):
        table.add_column(header, overflow="fold")
    folders = {folder.name: folder for folder in run_folders(results)}
    scores = _last_scores(read_epochs(results, _are_listed))
    for run in read_runs(results).select(COLUMNS).to_pylist():
        tags = read_tags(folders[run["run_id"]])
        if tag in (None, *tags) and state in (None, run["state"]):
            times_and_tags = (f"{run['started_at']:%Y-%m-%d %H:%M}", duration(run["wall_time_s"]), " ".join(tags))
            table.add_row(
                run["run_id"], run["state"], epochs_of(run), *_listed(scores.get(run["run_id"], {})), *times_and_tags
            )
    return table


def epochs_of(run: Mapping[str, Any]) -> str:
    """Return the epochs that a run has and those that were planned, of its row in the table of runs."""
    return f"{run['epochs_done']}/{run['epochs_planned']}"


def _are_listed(epochs: pa.Table) -> pa.Table:
    """Return the rows of the figures of which the list shows one for each run."""
    columns = {"split": SPLITS, "member": MEMBERS, "metric": queries.ACCURACIES}
    return reduce(lambda rows, column: queries.where_in(rows, column, columns[column]), columns, epochs)


def _last_scores(epochs: pa.Table) -> dict[str, dict[tuple[str, str], float]]:
    """Return run → split and member → last accuracy; of nearest neighbours, if the run has no other."""
    found: dict[str, dict[tuple[str, str], float]] = {}
    for metric in reversed(queries.ACCURACIES):
        of_metric: dict[str, dict[tuple[str, str], float]] = {}
        for split, member in product(SPLITS, MEMBERS):
            for run_id, curve in queries.points(epochs, Objective(split, metric, member)).items():
                of_metric.setdefault(run_id, {})[split, member] = curve[-1].value
        found |= of_metric
    return found


def score_of(found: RunSummary) -> tuple[str, str]:
    """Return the last accuracy of the mean of peers, or of the only peer, and its split: test before validation."""
    return _listed({(score.split, score.member): score.top1 for score in found.scores})


def _listed(scores: Mapping[tuple[str, str], float]) -> tuple[str, str]:
    for split in SPLITS:
        for member in MEMBERS:
            if (split, member) in scores:
                return f"{scores[split, member]:.2f}", SPLITS[split]
    return NO_VALUE, NO_VALUE


def comparison_table(folders: Sequence[Path]) -> Fitting:
    """Return a column for each run: the fields of the specs that differ, then states and last accuracies.

    A field without an effect in a run has no value there. Where the ids do not fit, the columns have numbers.

    Raises:
        StoreError: a folder holds no run, or a damaged one.
    """
    rows = _differences([acting(read_spec(folder)) for folder in folders])
    summaries = [_summary(folder) for folder in folders]
    rows["state"] = [found.run["state"] for found in summaries]
    rows["epochs"] = [epochs_of(found.run) for found in summaries]
    rows["tags"] = [" ".join(read_tags(folder)) or NO_VALUE for folder in folders]
    rows |= _accuracies(summaries)
    rows["time"] = [duration(found.run["wall_time_s"]) for found in summaries]
    ids, numbers = [folder.name for folder in folders], [str(number) for number, _ in enumerate(folders, start=1)]
    legend = [f"{number} {run_id}" for number, run_id in zip(numbers, ids, strict=True)]
    return Fitting((_compared(ids, rows), _compared(numbers, rows, title="\n".join(legend))))


def _compared(headers: Sequence[str], rows: Mapping[str, Sequence[str]], title: str | None = None) -> Table:
    """Return the table of a comparison; texts that are too long are continued on the next line."""
    table = Table(box=None, pad_edge=False, title=title and Text(title), title_justify="left")
    for header in ("", *headers):
        table.add_column(header, overflow="fold")
    for name, values in rows.items():
        table.add_row(name, *values)
    return table


def _summary(folder: Path) -> RunSummary:
    return summary(read_runs(folder), read_epochs(folder))


def _differences(specs: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return the values of each field that differs between specs; a field that a spec lacks has no value there."""
    paths = dict.fromkeys(path for spec in specs for path in spec)
    cells = {path: [setting(spec[path]) if path in spec else NO_VALUE for spec in specs] for path in paths}
    return {path: values for path, values in cells.items() if len(set(values)) > 1}


def _accuracies(summaries: Sequence[RunSummary]) -> dict[str, list[str]]:
    """Return the top-1 accuracy in % of each split and member that a run has, at its last epoch with that split."""
    found = list(map(accuracies, summaries))
    labels = dict.fromkeys(label for scores in found for label in scores)
    return {label: [scores.get(label, NO_VALUE) for scores in found] for label in labels}


def accuracies(found: RunSummary) -> dict[str, str]:
    """Return label → top-1 accuracy in % of each split and member that a run has, at its last epoch with that split."""
    return {_label(score): f"{score.top1:.2f}" for score in found.scores}


def _label(score: MemberScore) -> str:
    return f"{score.split} top-1 (%), {MEMBER_LABELS.get(score.member, score.member)}"
