"""Score against each cost for a page, with plotly: the same data, names and units as the file of `pareto.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mcl_ray.analysis.costs import Unit, label, unit_of
from mcl_ray.analysis.ranking import Ranked, pareto_front
from mcl_ray.config.scoring import Scoring
from mcl_ray.reports.interactive import LAYOUT, MARGINS, colour_at, escaped, in_lines, told_of
from mcl_ray.reports.pareto import is_log, priced, step_line
from mcl_ray.results.queries import METRIC_LABELS, Objective


def pareto(rows: Sequence[Ranked], objective: str, mode: str, scoring: Scoring) -> go.Figure:
    """One panel per cost, with the place of what is on the front beside its point."""
    shown, goal = priced(rows, scoring.costs), Objective.parse(objective)
    kept = {id(row) for row in pareto_front(shown, scoring.costs, mode)}
    front, beaten = [row for row in shown if id(row) in kept], [row for row in shown if id(row) not in kept]
    figure = make_subplots(rows=1, cols=len(scoring.costs), shared_yaxes=True)
    for column, cost in enumerate(scoring.costs, start=1):
        unit, where = unit_of(cost, [row.costs[cost] for row in shown]), {"row": 1, "col": column}
        first = {"showlegend": column == 1}
        line = step_line(shown, cost, mode)
        style = {"mode": "lines", "line": {"shape": "hv", "color": "black", "width": 1.5}, "hoverinfo": "skip"}
        xs, ys = [x / unit.size for x, _ in line], [y for _, y in line]
        figure.add_trace(go.Scatter(x=xs, y=ys, name="best at this cost or less", **style, **first), **where)
        empty = {"symbol": "circle-open", "size": 8, "color": colour_at(0.5)}
        figure.add_trace(_points(beaten, cost, unit, goal, "beaten by another", empty, **first), **where)
        full = {"symbol": "circle", "size": 10, "color": "black"}
        figure.add_trace(_points(front, cost, unit, goal, "on the Pareto front", full, **first), **where)
        scale = "log" if is_log(cost, shown) else "linear"
        figure.update_xaxes(title_text=escaped(label(cost, unit)), type=scale, zeroline=False, **where)
    name = f"{METRIC_LABELS.get(goal.metric, goal.metric)} {goal.unit and '(%)'}"
    figure.update_yaxes(title_text=in_lines(scoring.score.label(name, mode), 44), col=1)
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom"}
    return figure.update_layout(**(LAYOUT | {"margin": MARGINS | {"t": 60}}), height=480, legend=legend)


def _points(
    rows: Sequence[Ranked], cost: str, unit: Unit, goal: Objective, name: str, marker: dict[str, Any], **legend: bool
) -> go.Scatter:
    spread = [row.std or 0.0 for row in rows]
    return go.Scatter(
        x=[row.costs[cost] / unit.size for row in rows],
        y=[row.score for row in rows],
        error_y={"array": spread, "color": "#666666", "thickness": 1} if any(spread) else None,
        name=name,
        legendgroup=name,
        mode="markers+text" if name.startswith("on") else "markers",
        text=[str(row.place) for row in rows],
        textposition="top left",
        hovertext=[told_of(row, goal) for row in rows],
        hoverinfo="text",
        marker=marker,
        **legend,
    )
