"""The summary of a sweep as plain data, for the service's page: the answer, the ranking, and what its figures show.

Names, units, axes and the ranking are those of the report; importances are the ones that the report recorded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from mcl_ray.analysis.certainty import Interval, interval, paired_difference
from mcl_ray.analysis.improvement import NoImprovement, is_own_point, own_values
from mcl_ray.analysis.published_setting import MUTUAL_WEIGHTS
from mcl_ray.analysis.ranking import Ranked, pareto_front
from mcl_ray.analysis.roles import BASELINE
from mcl_ray.analysis.sweep_ranking import SweepRanking, rank_sweep
from mcl_ray.config.scoring import COSTS
from mcl_ray.reports.axes import parameter_axes, scored
from mcl_ray.reports.labels import COST_LABELS, MEMBER_LABELS, objective_label, parameters_of, short_names
from mcl_ray.reports.report import IMPORTANCES_FILE
from mcl_ray.results import queries
from mcl_ray.results.queries import Objective
from mcl_ray.results.reader import REPORT_FOLDER

MAX_CONFIGURATIONS = 500
"""Configurations that a summary lists, from the best on; fronts and figures are of these."""
Values = Mapping[str, float]
"""Run → the objective at its last epoch."""


def sweep_summary(folder: Path) -> dict[str, Any]:
    """Return the summary of the sweep in a folder, also while it runs; numbers that are not finite are None.

    Raises:
        StoreError: the folder holds no sweep, or a damaged one.
    """
    ranked = rank_sweep(folder)
    curves = queries.points(ranked.epochs, ranked.goal)
    values = {run_id: curve[-1].value for run_id, curve in curves.items()}
    own = own_values(ranked.sweep["spec"])
    rows = ranked.rows[:MAX_CONFIGURATIONS]
    places = {id(row): list(position) for row, position in _positions(scored(rows), ranked.log_fields)}
    costs = _costs(ranked)
    chosen = ranked.scoring.costs
    fronts = {cost: {id(row) for row in pareto_front(scored(rows), chosen or [cost], ranked.mode)} for cost in costs}
    listed = [
        _configuration(row, values, own)
        | {
            "positions": places.get(id(row)),
            "front": [cost for cost, front in fronts.items() if id(row) in front],
            "curve": [list(point) for point in _thinned(curves.get(row.run_ids[0], []))],
        }
        for row in rows
    ]
    content = {
        "sweep": _sweep(ranked),
        "parameters": _parameters(rows, ranked.log_fields),
        "configurations": listed,
        "answer": _answer(ranked, values, own),
        "costs": [{"name": cost, "label": COST_LABELS[cost], "is_time": cost == "training_time_s"} for cost in costs],
        "importances": _importances(folder, ranked),
    }
    finite: dict[str, Any] = _finite(content)
    return finite


def _sweep(ranked: SweepRanking) -> dict[str, Any]:
    sweep, goal, states = ranked.sweep, ranked.goal, ranked.runs["state"].to_pylist()
    state_of, repeats = dict(zip(ranked.runs["run_id"].to_pylist(), states, strict=True)), ranked.scoring.repeats
    tried = [[state_of[run_id] for run_id in row.run_ids] for row in ranked.rows if not row.is_compared]
    return {
        "sweep_id": sweep["sweep_id"],
        "name": sweep["name"],
        "state": sweep["state"],
        "objective": ranked.objective,
        "label": objective_label(goal),
        "unit": goal.unit,
        "mode": ranked.mode,
        "score": ranked.scoring.score.name(ranked.mode),
        "repeats": repeats,
        "trials_planned": sweep["trials_planned"],
        "trials_ended": sum(len(own) - own.count("running") >= min(len(own), repeats) for own in tried),
        "configurations": len(tried),
        "runs": {state: states.count(state) for state in dict.fromkeys(states)},
    }


def _parameters(rows: Sequence[Ranked], log_fields: Mapping[str, bool]) -> list[dict[str, Any]]:
    """Return every searched field with its name; those of configurations with a score have an axis too."""
    axes = {axis.parameter: axis for axis in parameter_axes(scored(rows), log_fields)}
    short = short_names(parameters_of(rows))
    return [
        {"name": name, "label": short[name]}
        | (
            {"kind": axes[name].kind, "ticks": axes[name].ticks, "limits": axes[name].limits}
            if name in axes and axes[name].positions
            else {}
        )
        for name in short
    ]


def _positions(rows: Sequence[Ranked], log_fields: Mapping[str, bool]) -> list[tuple[Ranked, tuple[float, ...]]]:
    """Return each configuration with its position on every axis."""
    columns = [axis.positions for axis in parameter_axes(rows, log_fields)]
    return list(zip(rows, zip(*columns, strict=True), strict=True)) if columns else []


def _configuration(row: Ranked, values: Values, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the ranking with the interval of its mean."""
    found = interval([values[run_id] for run_id in row.run_ids]) if row.n > 1 else None
    kept = ("place", "trial_id", "run_ids", "searched", "state", "reason", "value", "std", "n", "num_planned")
    content = {name: getattr(row, name) for name in (*kept, "score", "epochs_done", "wall_time_s", "costs")}
    low_high = None if found is None else (found.low, found.high)
    return content | {"interval": low_high, "is_own_point": is_own_point(row, own), "is_compared": row.is_compared}


def _answer(ranked: SweepRanking, values: Values, own: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the best configuration beside the runner-up, the run's own point and baseline; None without a score."""
    if ranked.best is None:
        return None
    best, *others = scored(ranked.rows)
    second = others[0] if others else None
    start = next((row for row in ranked.rows if row.score is not None and is_own_point(row, own)), None)
    baseline = next((row for row in ranked.rows if row.trial_id == BASELINE and row.score is not None), None)
    found = ranked.improvement
    return {
        "best": _configuration(best, values, own),
        "runner_up": None if second is None else _compared(best, second, ranked, values, own),
        "own_point": None
        if start is None
        else _compared(best, start, ranked, values, own) | {"is_published": _has_published_weights(own)},
        "no_own_point": found.reason if isinstance(found, NoImprovement) else None,
        "baseline": None if baseline is None else _compared(best, baseline, ranked, values, own),
        "test": _test_scores(ranked, best),
    }


def _compared(
    best: Ranked, other: Ranked, ranked: SweepRanking, values: Values, own: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a configuration with the difference of the best one to it, paired by seed."""
    seeds = dict(zip(ranked.runs["run_id"].to_pylist(), ranked.runs["seed"].to_pylist(), strict=True))
    found = paired_difference(*({seeds[run]: values[run] for run in row.run_ids} for row in (best, other)))
    return _configuration(other, values, own) | {
        "is_best": other is best,
        "difference": None if best.value is None or other.value is None else best.value - other.value,
        "paired": None if found is None or other is best else _interval(found),
    }


def _interval(found: Interval) -> dict[str, Any]:
    return asdict(found) | {"excludes_zero": found.excludes_zero}


def _test_scores(ranked: SweepRanking, best: Ranked) -> list[dict[str, Any]]:
    """Return the test accuracies of the best configuration, as means over its seeds, for those that were read."""
    own = queries.of_runs(ranked.epochs, best.run_ids)
    metric, found = queries.accuracy(own), []
    for member in ("mean", "best", "ensemble"):
        curves = queries.points(own, Objective("test", metric, member))
        lasts = [curve[-1].value for curve in curves.values()]
        if lasts:
            spread = stdev(lasts) if len(lasts) > 1 else None
            found.append({"member": MEMBER_LABELS[member], "value": fmean(lasts), "std": spread, "n": len(lasts)})
    return found


def _has_published_weights(own: Mapping[str, Any]) -> bool:
    """Return whether the run's weights of the loss are those of the published supervised runs."""
    return all(own.get(f"losses.{name}") == value for name, value in MUTUAL_WEIGHTS.items())


def _costs(ranked: SweepRanking) -> list[str]:
    """Return the costs that the sweep minimises; else those that differ between its configurations."""
    if ranked.scoring.costs:
        return list(ranked.scoring.costs)
    priced = [row.costs for row in scored(ranked.rows)]
    return [cost for cost in COSTS if len({costs[cost] for costs in priced if cost in costs}) > 1]


def _importances(folder: Path, ranked: SweepRanking) -> dict[str, Any]:
    """Return what the report of the sweep recorded."""
    file = folder / REPORT_FOLDER / IMPORTANCES_FILE
    if ranked.sweep["state"] != "finished":
        return {"values": {}, "reason": "they are computed when the sweep has ended"}
    if not file.is_file():
        return {"values": {}, "reason": "the sweep's report did not record them"}
    found: dict[str, Any] = json.loads(file.read_bytes())
    return found


def _thinned(curve: Sequence[Any], most: int = 60) -> list[Any]:
    """Return at most about `most` points of a curve, the last one among them."""
    step = max(1, math.ceil(len(curve) / most))
    return [*curve[:-1:step], *curve[-1:]]


def _finite(value: Any) -> Any:
    """Return a value without NaN and infinity, which JSON does not have: they become None."""
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
