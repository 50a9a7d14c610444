"""Score against each cost for the page, with plotly; data, names and units are those of `pareto.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mcl_ray.analysis.ranking import Ranked, pareto_front
from mcl_ray.config.scoring import Scoring
from mcl_ray.reports.interactive import hover_text
from mcl_ray.reports.interactive_style import (
    LAYOUT,
    LEGEND_BELOW,
    colour_at,
    end_percent_at_100,
    escaped,
    in_lines,
    with_spread,
)
from mcl_ray.reports.labels import METRIC_LABELS, Unit, cost_label, unit_of
from mcl_ray.reports.pareto import beside, is_log, priced, step_line
from mcl_ray.results.queries import Objective


def pareto(rows: Sequence[Ranked], objective: str, mode: str, scoring: Scoring) -> go.Figure:
    """Draw one panel per cost, with the place of each configuration on the front beside its point."""
    drawn, goal = priced(rows, scoring.costs), Objective.parse(objective)
    on_front = {id(row) for row in pareto_front(drawn, scoring.costs, mode)}
    front, others = [row for row in drawn if id(row) in on_front], [row for row in drawn if id(row) not in on_front]
    figure = make_subplots(rows=1, cols=len(scoring.costs), shared_yaxes=True)
    for column, cost in enumerate(scoring.costs, start=1):
        unit, panel = unit_of(cost, [row.costs[cost] for row in drawn]), {"row": 1, "col": column}
        first = {"showlegend": column == 1}
        line = step_line(drawn, cost, mode)
        style = {"mode": "lines", "line": {"shape": "hv", "color": "black", "width": 1.5}, "hoverinfo": "skip"}
        xs, ys = [x / unit.size for x, _ in line], [y for _, y in line]
        figure.add_trace(go.Scatter(x=xs, y=ys, name="best at this cost or less", **style, **first), **panel)
        empty = {"symbol": "circle-open", "size": 8, "color": colour_at(0.5)}
        figure.add_trace(_points(others, cost, unit, goal, "beaten by another", empty, **first), **panel)
        full = {"symbol": "circle", "size": 10, "color": "black"}
        figure.add_trace(_points(front, cost, unit, goal, "on the Pareto front", full, **first), **panel)
        scale = "log" if is_log(cost, drawn) else "linear"
        figure.update_xaxes(title_text=escaped(cost_label(cost, unit)), type=scale, zeroline=False, **panel)
    name = f"{METRIC_LABELS.get(goal.metric, goal.metric)} {goal.unit and '(%)'}"
    figure.update_yaxes(title_text=in_lines(scoring.score.label(name, mode), 44), col=1)
    end_percent_at_100(figure, goal, with_spread(drawn))
    figure.update_yaxes(automargin=True)
    return figure.update_layout(**LAYOUT, height=480, legend=LEGEND_BELOW)


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
        mode="markers+text",
        text=[beside(row, has_place=name.startswith("on")) for row in rows],
        textposition="top left",
        hovertext=[hover_text(row, goal) for row in rows],
        hoverinfo="text",
        marker=marker,
        **legend,
    )
