"""The ranking of a sweep's configurations, its Pareto front, and the summary of one run.

They are computed from the tables of the store; `mcl_ray.reports.terminal` shows them.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import le
from typing import Any

import pyarrow as pa

from mcl_ray.analysis.costs import mean_costs
from mcl_ray.analysis.published import PublishedFigure, published_figure
from mcl_ray.analysis.roles import COMPARED, counts, is_further
from mcl_ray.analysis.workers import pretraining_workers, workers_by_spec
from mcl_ray.config.effects import acting, acts, deciding
from mcl_ray.config.scoring import MEAN, Mode, Score, has_enough_seeds
from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import SpecError, StoreError
from mcl_ray.results import queries
from mcl_ray.results.provenance import workers_of
from mcl_ray.results.queries import BEST_PEER_TEST, Objective, Point

STATES = ("finished", "stopped", "interrupted", "running", "failed")
"""States, from the one with the most to the one with the least reliable figure."""
UNRANKED = ["spec", "recipe", "digest", "started_at", "host", "hardware", "code_version", "torch_version"]
"""Columns of runs that a ranking is not made from, but for the specs of some."""


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A configuration in a ranking: all its runs, which differ in the seed only."""

    place: int | None
    """Rank, 1 for the best; None without a score."""
    run_ids: tuple[str, ...]
    """Runs that the value is made of, best first; all runs if there is no value."""
    trial_id: str | None
    searched: Mapping[str, Any]
    """Searched field → value."""
    state: str
    """Least reliable state among those runs."""
    reason: str | None
    """Reason why seeds are missing from the value; None if none is."""
    value: float | None
    """Mean over seeds of the objective at each run's last epoch."""
    std: float | None
    """Sample standard deviation over seeds; None with fewer than two."""
    n: int
    """Number of seeds that the value is made of."""
    best_peer_best_epoch: float | None
    """Mean over seeds of the best peer's test top-1 at its best epoch: the published tables' figure."""
    epochs_done: int
    """Epochs of the shortest of those runs."""
    wall_time_s: float
    """Seconds of all runs together, each counted from when its process started to work on it."""
    score: float | None = None
    """Number that the configuration is ranked by, computed from the seeds' figures; None without a value."""
    num_planned: int = 1
    """Number of seeds planned."""
    costs: Mapping[str, float] = field(default_factory=dict)
    """Cost → mean over those runs, for the costs that are known."""

    @property
    def is_compared(self) -> bool:
        """Return whether the configuration was trained for comparison, outside of the search; it has no place."""
        return self.trial_id in COMPARED


def best_of(rows: Sequence[Ranked]) -> Ranked | None:
    """Return the best configuration of a ranking; None if none has a score, those for comparison aside."""
    return rows[0] if rows and rows[0].score is not None and not rows[0].is_compared else None


def ranking(
    runs: pa.Table, epochs: pa.Table, objective: str, mode: str, score: Score = MEAN, repeats: int = 1
) -> list[Ranked]:
    """Return the configurations from best to worst, then those for comparison, then those without a score.

    Configurations that were confirmed with further seeds come first, then others that trained to the end, then those
    that were stopped early, whose figures are of an earlier epoch. Among these, one with a seed that
    failed comes after those without. Equal scores are in the order of trials. Searched fields that have no effect in a
    configuration are left out; those for comparison have the values of their runs for the others.

    Args:
        runs: The table of runs.
        epochs: The table of epochs of these runs.
        objective: Key of the figure, `split/metric/member`.
        mode: `max` or `min`.
        score: How the figures of a configuration's seeds become its score.
        repeats: Planned seeds of a configuration; if more have ended, those count as planned. A configuration has a
            score if `mcl_ray.config.scoring.has_enough_seeds` of the planned seeds have a figure.

    Raises:
        SpecError: `mode` is neither max nor min, or the objective is not split/metric/member.
    """
    if mode not in ("max", "min"):
        raise SpecError(f"mode must be max or min, but got {mode!r}")
    figure, best = Objective.parse(objective), queries.points(epochs, BEST_PEER_TEST)
    curves = best if figure == BEST_PEER_TEST else queries.points(epochs, figure)
    order: Mode = "max" if mode == "max" else "min"
    sign = -1.0 if order == "max" else 1.0
    records = _records(runs)
    groups = _configurations([run for run in records if counts(run, repeats)])
    times = queries.training_times(epochs)
    rows = [_ranked(group, curves, best, times, figure, order, score, repeats) for group in groups]
    scored = [row for row in rows if row.score is not None and not row.is_compared]
    confirmed = {row["trial_id"] for row in records if is_further(row, repeats) and row["state"] == "finished"}
    scored.sort(
        key=lambda row: (
            row.trial_id not in confirmed,
            row.state != "finished",
            row.n < row.num_planned,
            sign * (row.score or 0.0),
            row.trial_id or "",
        )
    )
    placed = [replace(row, place=place) for place, row in enumerate(scored, start=1)]
    searched = {path for row in placed for path in row.searched}
    specs = {run["run_id"]: run["spec"] for run in runs.to_pylist()}
    compared = [
        replace(row, searched=_completed(row.searched, searched, RunSpec.model_validate_json(specs[row.run_ids[0]])))
        for row in rows
        if row.score is not None and row.is_compared
    ]
    return placed + compared + [row for row in rows if row.score is None]


def _records(runs: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of the table of runs, with `searched` parsed; `spec` is a scalar of arrow, as it is long."""
    rows: list[dict[str, Any]] = runs.drop_columns(UNRANKED).to_pylist()
    for row, spec in zip(rows, runs["spec"], strict=True):
        row |= {"spec": spec, "searched": json.loads(row["searched"])}
    return rows


def _configurations(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Group runs into configurations: the runs of a trial or, without a trial, those that differ in the seed only.

    Without a trial, runs of different sweeps are never grouped; nor are different seeds if the seed was searched.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        searched = row["searched"]
        alike = [row["trial_id"]] if row["trial_id"] is not None else [_spec_of(row, searched), searched]
        key = (row["sweep_id"] or "", json.dumps(alike, sort_keys=True))
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def _spec_of(row: Mapping[str, Any], searched: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec of a run, without its seed unless that was searched."""
    spec: dict[str, Any] = json.loads(row["spec"].as_py())
    return spec if "seed" in searched else {name: value for name, value in spec.items() if name != "seed"}


def _ranked(
    group: Sequence[dict[str, Any]],
    curves: Mapping[str, list[Point]],
    best: Mapping[str, list[Point]],
    times: Mapping[str, float],
    objective: Objective,
    mode: Mode,
    score: Score,
    repeats: int,
) -> Ranked:
    reasons = {row["run_id"]: _reason_unscored(row, curves.get(row["run_id"], []), objective) for row in group}
    valid = {_seed(row): row for row in group if reasons[row["run_id"]] is None}
    missing = {_seed(row): reasons[row["run_id"]] for row in group if _seed(row) not in valid}
    num_planned = max(repeats, len(valid) + len(missing))
    reason = _reason_missing(list(missing.values()), len(valid), num_planned)
    scored = list(valid.values()) if has_enough_seeds(len(valid), num_planned) else []
    scored.sort(key=lambda row: curves[row["run_id"]][-1].value, reverse=mode == "max")
    values = [curves[row["run_id"]][-1].value for row in scored]
    peaks = [queries.highest(best.get(row["run_id"], [])) for row in scored]
    known = [peak.value for peak in peaks if peak is not None]
    counted = scored or list(group)
    return Ranked(
        place=None,
        run_ids=tuple(row["run_id"] for row in counted),
        trial_id=counted[0]["trial_id"],
        searched=_searched_with_effect(counted[0]),
        state=max((row["state"] for row in counted), key=STATES.index),
        reason=reason,
        value=statistics.fmean(values) if values else None,
        std=statistics.stdev(values) if len(values) > 1 else None,
        n=len(values),
        best_peer_best_epoch=statistics.fmean(known) if known else None,
        epochs_done=min(row["epochs_done"] for row in counted),
        wall_time_s=sum(row["wall_time_s"] for row in group),
        score=score.of(values, mode=mode) if values else None,
        num_planned=num_planned,
        costs=mean_costs(counted, times),
    )


def _searched_with_effect(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the searched fields that have an effect; earlier versions sampled the others, too."""
    searched: dict[str, Any] = row["searched"]
    if not any(map(deciding, searched)):
        return searched
    spec = RunSpec.model_validate_json(row["spec"].as_py())
    return {path: value for path, value in searched.items() if acts(spec, path)}


def _completed(given: Mapping[str, Any], searched: Iterable[str], run: RunSpec) -> dict[str, Any]:
    """Return the fields of a baseline, with its own values of those that the search varies and that act in it."""
    own = acting(run)
    return {**given, **{path: own[path] for path in sorted(searched) if path in own and path not in given}}


def _seed(row: Mapping[str, Any]) -> Any:
    """Return the key of a seed: in a trial the run; else the seed, so that a later run replaces an earlier one."""
    return row["seed"] if row["trial_id"] is None else row["run_id"]


def _reason_unscored(row: Mapping[str, Any], curve: Sequence[Point], objective: Objective) -> str | None:
    if row["state"] == "failed":
        return f"{row['error_type']}: {row['error']}" if row["error_type"] else "failed without a message"
    if not curve:
        return f"{row['state']} after {row['epochs_done']} epochs without a figure for {objective.key}"
    if not math.isfinite(curve[-1].value):
        return f"{objective.key} is {curve[-1].value} at epoch {curve[-1].epoch}"
    return None


def _reason_missing(reasons: Sequence[str | None], num_valid: int, num_planned: int) -> str | None:
    """Return the number of seeds without a figure, and their reasons, each once; None if every seed has one."""
    if num_valid == num_planned:
        return None
    distinct = [reason for reason in dict.fromkeys(reasons) if reason is not None]
    if num_planned == 1:
        return distinct[0]
    distinct += ["not started"] if num_valid + len(reasons) < num_planned else []
    return f"{num_planned - num_valid} of {num_planned} seeds without a figure: {'; '.join(distinct)}"


def pareto_front(ranked: Sequence[Ranked], costs: Sequence[str], mode: str = "max") -> list[Ranked]:
    """Return the configurations that are not dominated by another one.

    A configuration dominates another if it is at least as good in the score and in every cost, and better in one of
    them. Equal configurations are all on the front; one without a score or with an unknown cost is not.

    Args:
        ranked: From `ranking`.
        costs: The costs to minimise.
        mode: `max` if a higher score is better, else `min`.
    """
    sign = -1.0 if mode == "max" else 1.0
    goals = {
        index: (sign * row.score, *(row.costs[cost] for cost in costs))
        for index, row in enumerate(ranked)
        if row.score is not None and not row.is_compared and all(cost in row.costs for cost in costs)
    }
    front: list[tuple[float, ...]] = []
    for own in sorted(
        set(goals.values())
    ):  # what dominates a goal comes before it, and is dominated by one on the front
        if not any(all(map(le, other, own)) for other in front):
            front.append(own)
    on_front = set(front)
    return [ranked[index] for index, own in goals.items() if own in on_front]


@dataclass(frozen=True, kw_only=True)
class MemberScore:
    """Last-epoch accuracies in % of a peer, of the mean of peers, of the best peer or of the ensemble."""

    member: str
    split: str
    epoch: int
    top1: float
    top5: float | None
    metric: str = "top1"
    """Top-1 metric, a key of `queries.ACCURACIES`."""


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """The summary of a run: its record, its figures at the last epoch, and the published figure."""

    run: Mapping[str, Any]
    """Row of the table of runs."""
    scores: tuple[MemberScore, ...]
    best_peer_best_epoch: Point | None
    """Best peer's test top-1 at its best epoch, and that epoch."""
    published: PublishedFigure | None

    @property
    def headers(self) -> list[str]:
        """Headers of the columns that `scores` fill."""
        kinds = {"kNN " if score.metric.startswith("knn") else "" for score in self.scores} or {""}
        accuracies = [f"{' / '.join(sorted(kinds))}top-{k} (%)" for k in (1, 5)]
        return ["member", "split", "epoch", *accuracies]

    @property
    def difference(self) -> float | None:
        """This run's best_peer_best_epoch minus the published mean, in percentage points; None for other images."""
        if self.published is None or self.best_peer_best_epoch is None or self.published.is_of_other_images:
            return None
        return self.best_peer_best_epoch.value - self.published.mean


def summary(runs: pa.Table, epochs: pa.Table, run_id: str | None = None) -> RunSummary:
    """Return the summary of one run.

    Args:
        runs: The table of runs.
        epochs: The table of epochs.
        run_id: Id of the run; it may be left out if there is only one run.

    Raises:
        StoreError: there is no such run, or several and no `run_id`.
    """
    rows = (runs if run_id is None else queries.of_run(runs, run_id)).to_pylist()
    if len(rows) != 1:
        raise StoreError(f"a summary is made of one run, but {len(rows)} match run_id={run_id!r}")
    row = rows[0]
    own = queries.of_run(epochs, row["run_id"])
    scores = [
        score
        for split in queries.scored_splits(own)
        for member in queries.members(own, split)
        if (score := _member_score(own, row["run_id"], split, member)) is not None
    ]
    return RunSummary(
        run=row,
        scores=tuple(scores),
        best_peer_best_epoch=queries.highest(queries.points(own, BEST_PEER_TEST).get(row["run_id"], [])),
        published=_published(row, runs),
    )


def _published(row: Mapping[str, Any], runs: pa.Table) -> PublishedFigure | None:
    """Return the published figure of a run; its pretraining is compared as far as it is among the runs."""
    spec = RunSpec.model_validate_json(row["spec"])
    known = workers_by_spec(runs.to_pylist()) if spec.pretraining else {}
    return published_figure(spec, workers_of(row["hardware"]), pretraining_workers(spec, known))


def _member_score(epochs: pa.Table, run_id: str, split: str, member: str) -> MemberScore | None:
    metric = queries.accuracy(epochs)
    top1, top5 = (
        queries.points(epochs, Objective(split, name, member)).get(run_id, [])
        for name in (metric, queries.ACCURACIES[metric])
    )
    if not top1:
        return None
    last = top1[-1]
    beside = next((point.value for point in top5 if point.epoch == last.epoch), None)
    return MemberScore(member=member, split=split, epoch=last.epoch, top1=last.value, top5=beside, metric=metric)
