"""Figures in rows: the ranking of a sweep's configurations, the summary of one run.

Made of the store's tables alone; how they look in a terminal is `text.py`.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mcl_ray.errors import SpecError, StoreError
from mcl_ray.results import series
from mcl_ray.results.published import PublishedFigure, published_figure
from mcl_ray.results.series import BEST_PEER_TEST, Objective, Point
from mcl_ray.spec import RunSpec

STATES = ("finished", "stopped", "interrupted", "running", "failed")
"""From the most to the least trusted figure."""


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One configuration: all its runs, which differ in the seed only."""

    place: int | None
    """1 is best; None without a value."""
    run_ids: tuple[str, ...]
    """The runs behind the value (all runs, where there is none), best first."""
    trial_id: str | None
    searched: Mapping[str, Any]
    state: str
    """The least trusted state among the runs behind the value."""
    reason: str | None
    """Why runs are missing from the value; None when none is."""
    value: float | None
    """Mean over runs of the objective at each run's last epoch."""
    std: float | None
    """Sample standard deviation over runs; None with fewer than two."""
    n: int
    """Runs behind the value."""
    best_peer_best_epoch: float | None
    """Mean over runs of the best peer's test top-1 at its best epoch: the published tables' figure."""
    epochs_done: int
    """Of the shortest run behind the value."""
    wall_time_s: float
    """Of all runs together."""


def ranking(runs: pa.Table, epochs: pa.Table, objective: str, mode: str) -> list[Ranked]:
    """Configurations from best to worst; failed and never-scored ones at the end, with their reason.

    Raises:
        SpecError: `mode` is neither max nor min, or the objective is not split/metric/member.
    """
    if mode not in ("max", "min"):
        raise SpecError(f"mode must be max or min, but got {mode!r}")
    figure, best = Objective.parse(objective), series.points(epochs, BEST_PEER_TEST)
    curves = best if figure == BEST_PEER_TEST else series.points(epochs, figure)
    sign = -1.0 if mode == "max" else 1.0
    scored: list[Ranked] = []
    unscored: list[Ranked] = []
    for group in _configurations(runs.to_pylist()):
        row = _ranked(group, curves, best, figure, sign)
        (unscored if row.value is None else scored).append(row)
    scored.sort(key=lambda row: sign * (row.value or 0.0))
    placed = [_with_place(row, place) for place, row in enumerate(scored, start=1)]
    return placed + unscored


def _configurations(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Runs of one sweep that differ in the seed only belong together, unless the seed is what was searched."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        spec, searched = json.loads(row["spec"]), json.loads(row["searched"])
        if "seed" not in searched:
            spec.pop("seed", None)
        key = (row["sweep_id"] or "", json.dumps([spec, searched], sort_keys=True))
        groups.setdefault(key, []).append(row | {"searched": searched})
    return list(groups.values())


def _ranked(
    group: Sequence[dict[str, Any]],
    curves: Mapping[str, list[Point]],
    best: Mapping[str, list[Point]],
    objective: Objective,
    sign: float,
) -> Ranked:
    reasons = {row["run_id"]: _why_unscored(row, curves.get(row["run_id"], []), objective) for row in group}
    # The same seed again is the same experiment again: it replaces the figure, it does not raise n.
    scored = list({row["seed"]: row for row in group if reasons[row["run_id"]] is None}.values())
    scored.sort(key=lambda row: sign * curves[row["run_id"]][-1].value)
    values = [curves[row["run_id"]][-1].value for row in scored]
    peaks = [series.highest(best.get(row["run_id"], [])) for row in scored]
    known = [peak.value for peak in peaks if peak is not None]
    behind = scored or list(group)
    missing = [reason for reason in reasons.values() if reason is not None]
    return Ranked(
        place=None,
        run_ids=tuple(row["run_id"] for row in behind),
        trial_id=behind[0]["trial_id"],
        searched=behind[0]["searched"],
        state=max((row["state"] for row in behind), key=STATES.index),
        reason=_joined(missing, len(group)),
        value=statistics.fmean(values) if values else None,
        std=statistics.stdev(values) if len(values) > 1 else None,
        n=len(values),
        best_peer_best_epoch=statistics.fmean(known) if known else None,
        epochs_done=min(row["epochs_done"] for row in behind),
        wall_time_s=sum(row["wall_time_s"] for row in group),
    )


def _why_unscored(row: Mapping[str, Any], curve: Sequence[Point], objective: Objective) -> str | None:
    if row["state"] == "failed":
        return f"{row['error_type']}: {row['error']}" if row["error_type"] else "failed without a message"
    if not curve:
        return f"{row['state']} after {row['epochs_done']} epochs without a figure for {objective.key}"
    if not math.isfinite(curve[-1].value):
        return f"{objective.key} is {curve[-1].value} at epoch {curve[-1].epoch}"
    return None


def _joined(missing: Sequence[str], num_runs: int) -> str | None:
    if not missing:
        return None
    return missing[0] if num_runs == 1 else f"{len(missing)} of {num_runs} runs: {'; '.join(dict.fromkeys(missing))}"


def _with_place(row: Ranked, place: int) -> Ranked:
    return Ranked(**(vars(row) | {"place": place}))


@dataclass(frozen=True, kw_only=True)
class MemberScore:
    """Last-epoch accuracies of a peer, the mean, the best peer or the ensemble, in %."""

    member: str
    split: str
    epoch: int
    top1: float
    top5: float | None


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """One run: its record, its figures at the last epoch, and the published figure beside it."""

    run: Mapping[str, Any]
    """The row of the runs table."""
    scores: tuple[MemberScore, ...]
    best_peer_best_epoch: Point | None
    """The best peer's test top-1 at its best epoch, and that epoch."""
    published: PublishedFigure | None

    @property
    def difference(self) -> float | None:
        """This run's best_peer_best_epoch less the published mean, in percentage points."""
        if self.published is None or self.best_peer_best_epoch is None:
            return None
        return self.best_peer_best_epoch.value - self.published.mean


def summary(runs: pa.Table, epochs: pa.Table, run_id: str | None = None) -> RunSummary:
    """The summary of one run; `run_id` may be left out where there is one run only.

    Raises:
        StoreError: there is no such run, or several and no `run_id`.
    """
    rows = [row for row in runs.to_pylist() if run_id in (None, row["run_id"])]
    if len(rows) != 1:
        raise StoreError(f"a summary is of one run, but {len(rows)} match run_id={run_id!r}")
    row = rows[0]
    own = series.of_run(epochs, row["run_id"])
    scores = [
        score
        for split in series.scored_splits(own)
        for member in series.members(own, split)
        if (score := _member_score(own, row["run_id"], split, member)) is not None
    ]
    return RunSummary(
        run=row,
        scores=tuple(scores),
        best_peer_best_epoch=series.highest(series.points(own, BEST_PEER_TEST).get(row["run_id"], [])),
        published=published_figure(RunSpec.model_validate_json(row["spec"])),
    )


def _member_score(epochs: pa.Table, run_id: str, split: str, member: str) -> MemberScore | None:
    top1, top5 = (
        series.points(epochs, Objective(split, metric, member)).get(run_id, []) for metric in ("top1", "top5")
    )
    if not top1:
        return None
    last = top1[-1]
    beside = next((point.value for point in top5 if point.epoch == last.epoch), None)
    return MemberScore(member=member, split=split, epoch=last.epoch, top1=last.value, top5=beside)
