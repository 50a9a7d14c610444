"""Judge of sweeps: compares what it has seen on the disk with what is there at the end.

It reads the Parquet files itself: no code of the project takes part.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.campaign.findings import Findings

CLOCK = ("epoch_time_s", "images_per_s")
"""Metrics of the wall clock, which differ whenever an epoch is trained again."""
ENDED = ("finished", "stopped", "failed")
Figure = tuple[int, str, str, str]
"""Epoch, member, split, metric."""


@dataclass(frozen=True)
class Seen:
    """Records of a sweep on the disk at one moment."""

    runs: Mapping[str, Mapping[str, Any]]
    """Run → its row."""
    figures: Mapping[str, Mapping[Figure, Sequence[float]]]
    """Run → figure → its value in every attempt that has it."""
    state: str = "running"
    """State of the sweep."""


def look(sweep: Path) -> Seen:
    """Return the records in a sweep's folder."""
    (row,) = pq.read_table(sweep / "sweep.parquet").to_pylist()
    return replace(look_at_runs(sweep), state=row["state"])


def look_at_runs(results: Path) -> Seen:
    """Return the records of the runs in a folder of results, or of a sweep."""
    runs, figures = {}, {}
    for folder in sorted((results / "runs").glob("*")):
        if not (folder / "run.parquet").exists():
            continue
        (runs[folder.name],) = pq.read_table(folder / "run.parquet").to_pylist()
        figures[folder.name] = _figures(folder)
    return Seen(runs, figures)


def _figures(folder: Path) -> dict[Figure, list[float]]:
    found: dict[Figure, list[float]] = {}
    for file in sorted(folder.glob("epochs-a*.parquet")):
        for row in pq.read_table(file).to_pylist():
            if row["metric"] not in CLOCK and row["split"] != "test":
                key = (row["epoch"], row["member"], row["split"], row["metric"])
                found.setdefault(key, []).append(row["value"])
    return found


def judge(moments: Sequence[Seen], *, trials: int, repeats: int) -> Findings:
    """Judge a sweep that has ended by itself after the last of `moments`.

    Args:
        moments: What was seen after each death of a process, and at the end.
        trials: Trials that it was to run.
        repeats: Seeds of each.
    """
    findings, end = Findings(), moments[-1]
    if end.state != "finished":
        findings.stuck.append(f"the sweep is {end.state}")
    _compare(moments, end, findings)
    seeds: dict[str, int] = {}
    points: dict[str, str] = {}
    for run_id, row in end.runs.items():
        seeds[row["trial_id"]] = seeds.get(row["trial_id"], 0) + 1
        points[row["trial_id"]] = json.dumps(json.loads(row["searched"]), sort_keys=True)
        if row["state"] not in ENDED:
            findings.lost.append(f"{run_id} is {row['state']}")
        epochs = {key[0] for key in end.figures[run_id]}
        if row["state"] != "failed" and epochs != set(range(1, row["epochs_done"] + 1)):
            findings.lost.append(f"{run_id} has epochs {sorted(epochs)} of {row['epochs_done']}")
    if len(seeds) != trials or set(seeds.values()) != {repeats}:
        findings.lost.append(f"{trials} trials of {repeats} seeds, but {seeds}")
    if len(set(points.values())) < len(points):
        findings.doubled.append(f"a configuration twice: {points}")
    for run_id, figures in end.figures.items():
        for key, values in figures.items():
            if not all(_is_same(value, values[0]) for value in values):
                findings.wrong.append(f"{run_id} {key}: {values}")
    return findings


def judge_run(moments: Sequence[Seen], right: Mapping[Figure, Sequence[float]]) -> Findings:
    """Judge a run that has ended by itself after the last of `moments`.

    Args:
        moments: What was seen after each death of a process, and at the end.
        right: The figures of the same run to which nothing happened.
    """
    findings, end = Findings(), moments[-1]
    _compare(moments, end, findings)
    if len(end.runs) != 1:
        findings.doubled.append(f"one run, but {sorted(end.runs)}")
    for run_id, row in end.runs.items():
        if row["state"] != "finished":
            findings.lost.append(f"{run_id} is {row['state']}")
        if missing := sorted(set(right) - set(end.figures[run_id])):
            findings.lost.append(f"{run_id}: {missing[:3]}")
        for key, values in end.figures[run_id].items():
            if not all(_is_same(value, right[key][0]) for value in values):
                findings.wrong.append(f"{run_id} {key}: {values}, and alone {right[key]}")
    return findings


def _is_same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _compare(moments: Sequence[Seen], end: Seen, findings: Findings) -> None:
    """Find what was there and is not, and what had ended and went on."""
    for seen in moments:
        for run_id, row in seen.runs.items():
            after = end.runs.get(run_id)
            if after is None:
                findings.lost.append(f"{run_id} was there")
                continue
            gone = set(seen.figures[run_id]) - set(end.figures[run_id])
            if gone:
                findings.lost.append(f"{run_id}: {sorted(gone)[:3]}")
            if row["state"] in ENDED and after["state"] != row["state"]:
                findings.regressed.append(f"{run_id} was {row['state']}, and is {after['state']}")
            if row["state"] == "finished" and after["attempt"] > row["attempt"] + 1:  # one of the test split
                findings.doubled.append(
                    f"{run_id} had finished in attempt {row['attempt']}, and has {after['attempt']}"
                )
