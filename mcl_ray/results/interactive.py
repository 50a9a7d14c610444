"""The four figures for a page, with plotly; the same data, names and axes as the files of `plots.py`.

plotly reads labels as a kind of HTML, so every string of a user is escaped here.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import pyarrow as pa
from plotly.subplots import make_subplots

from mcl_ray.results import series
from mcl_ray.results.axes import ParameterAxis, parameter_axes, scored, values_of
from mcl_ray.results.curves import wants_log
from mcl_ray.results.plots import caption
from mcl_ray.results.series import LOSS_LABELS, MEMBER_LABELS, METRIC_LABELS, Objective, Point
from mcl_ray.results.style import palette
from mcl_ray.results.tables import Ranked
from mcl_ray.results.text import shortened

DASHES = ("solid", "dash", "dashdot", "dot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "star", "cross", "x")
LONGEST_LABEL = 26
MARGINS = {"l": 80, "r": 30, "t": 40, "b": 60}
LAYOUT = {"template": "plotly_white", "font": {"size": 13}, "margin": MARGINS}


def _colour(share: float) -> str:
    red, green, blue, _ = (round(255 * part) for part in palette(share))
    return f"rgb({red},{green},{blue})"


def _escaped(text: str) -> str:
    return html.escape(text, quote=True)


def learning_curves(epochs: pa.Table, run_id: str) -> go.Figure:
    """Accuracy of peers, mean and ensemble on each scored split; the training loss's terms below."""
    own = series.of_run(epochs, run_id)
    splits = [split for split in series.scored_splits(own) if _curve(own, Objective(split, "top1", "mean"))]
    rows = len(splits) + 1
    figure = make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for row, split in enumerate(splits, start=1):
        _add_accuracies(figure, own, split, row)
        figure.update_yaxes(title_text=f"{METRIC_LABELS['top1']}, {split} (%)", row=row, col=1)
    losses = {term: _curve(own, Objective("train", term, "cohort")) for term in LOSS_LABELS}
    losses = {term: curve for term, curve in losses.items() if curve}
    for rank, (term, curve) in enumerate(losses.items()):
        style = {"color": _colour(rank / max(1, len(losses) - 1)), "dash": DASHES[rank % 4], "width": 2}
        _add_curve(figure, curve, rank, LOSS_LABELS[term], style, rows, "training loss")
    scale = "log" if wants_log(losses) else "linear"
    figure.update_yaxes(title_text="Training loss, unweighted", type=scale, row=rows, col=1)
    figure.update_xaxes(title_text="Epoch", row=rows, col=1)
    return figure.update_layout(**LAYOUT, height=340 * rows, legend={"groupclick": "toggleitem", "tracegroupgap": 24})


def _curve(own: pa.Table, objective: Objective) -> list[Point]:
    return next(iter(series.points(own, objective).values()), [])


def _add_accuracies(figure: go.Figure, own: pa.Table, split: str, row: int) -> None:
    names = [name for name in series.members(own, split) if name != "best"]
    num_peers = sum(name.startswith("peer") for name in names)
    for rank, name in enumerate(names):
        style: dict[str, Any]
        if name.startswith("peer"):
            style = {"color": _colour(rank / max(1, num_peers - 1)), "dash": DASHES[rank % 4], "width": 1.4}
        else:
            style = {
                "color": "black" if name == "ensemble" else "#b8b8b8",
                "dash": "dash" if name == "ensemble" else "solid",
            }
            style["width"] = 2.5 if name == "ensemble" else 6
        curve = _curve(own, Objective(split, "top1", name))
        _add_curve(figure, curve, rank, MEMBER_LABELS.get(name, name), style, row, f"top-1, {split}")


def _add_curve(
    figure: go.Figure, curve: Sequence[Point], rank: int, name: str, line: dict[str, Any], row: int, group: str
) -> None:
    trace = go.Scatter(
        x=[point.epoch for point in curve],
        y=[point.value if math.isfinite(point.value) else None for point in curve],
        name=_escaped(name),
        mode="lines+markers",
        line=line,
        marker={"symbol": SYMBOLS[rank % len(SYMBOLS)], "size": 7, "maxdisplayed": 10},
        legendgroup=group,
        zorder=0 if name == MEMBER_LABELS["mean"] else 1,
        legendgrouptitle={"text": group},
    )
    figure.add_trace(trace, row=row, col=1)


def parallel_coordinates(rows: Sequence[Ranked], objective: str, mode: str) -> go.Figure:
    """One line per configuration; drag along an axis to choose lines. The darker, the better."""
    shown, goal = scored(rows), Objective.parse(objective)
    values = values_of(shown)
    low, high = min(values), max(values)
    limits = (low, high) if high > low else (low - 0.5, high + 0.5)
    label = f"{METRIC_LABELS.get(goal.metric, goal.metric)}{' (%)' if goal.unit else ''}"
    dimensions = [_dimension(axis) for axis in parameter_axes(shown)]
    dimensions.append({"label": _escaped(shortened(label, LONGEST_LABEL)), "values": values, "range": limits})
    shades = [[share / 8, _colour(1 - share / 8 if mode == "max" else share / 8)] for share in range(9)]
    line = {"color": values, "colorscale": shades, "cmin": limits[0], "cmax": limits[1], "showscale": True}
    line["colorbar"] = {"title": {"text": _escaped(goal.label), "side": "right"}}
    figure = go.Figure(go.Parcoords(dimensions=dimensions, line=line, labelfont={"size": 13}, tickfont={"size": 11}))
    margins = MARGINS | {"t": 80, "l": 140}
    return figure.update_layout(**(LAYOUT | {"margin": margins}), height=460)


def _dimension(axis: ParameterAxis) -> dict[str, Any]:
    return {
        "label": _escaped(shortened(axis.label, LONGEST_LABEL)),
        "values": axis.places,
        "range": axis.limits,
        "tickvals": [place for place, _ in axis.ticks],
        "ticktext": [_escaped(name) for _, name in axis.ticks],
    }


def importance_bars(importances: Mapping[str, float], objective: str) -> go.Figure:
    """How much of the objective's variance each parameter explains."""
    ordered = sorted(importances.items(), key=lambda item: item[1])
    names = series.short_names([name for name, _ in ordered])
    shares = [100 * value for _, value in ordered]
    bars = go.Bar(
        x=shares,
        y=[_escaped(shortened(names[name], LONGEST_LABEL)) for name, _ in ordered],
        text=[f"{share:.1f} %" for share in shares],
        textposition="outside",
        cliponaxis=False,
        orientation="h",
        marker={"color": _colour(0.35)},
    )
    figure = go.Figure(bars)
    figure.update_xaxes(title_text=f"Share of the variance of {_escaped(objective)} (%), fANOVA", range=[0, 110])
    figure.update_yaxes(automargin=True)
    return figure.update_layout(**LAYOUT, height=140 + 34 * len(ordered))


def accuracy_by_parameter(rows: Sequence[Ranked], objective: str, mode: str) -> go.Figure:
    """The objective against each searched parameter."""
    shown, goal = scored(rows), Objective.parse(objective)
    axes = parameter_axes(shown)
    columns = min(3, len(axes))
    lines = math.ceil(len(axes) / columns)
    figure = make_subplots(rows=lines, cols=columns, shared_yaxes="all", vertical_spacing=0.32 / lines)
    shades = [[share / 8, _colour(1 - share / 8 if mode == "max" else share / 8)] for share in range(9)]
    for place, axis in enumerate(axes):
        row, column = place // columns + 1, place % columns + 1
        figure.add_trace(_scatter(axis, shown, goal, shades), row=row, col=column)
        title = _escaped(shortened(axis.label, LONGEST_LABEL)) + (" (log scale)" if axis.kind == "log" else "")
        ticks = {"tickvals": [at for at, _ in axis.ticks], "ticktext": [_escaped(name) for _, name in axis.ticks]}
        low, high = axis.limits
        reach = [low - 0.07 * (high - low), high + 0.07 * (high - low)]
        figure.update_xaxes(title_text=title, range=reach, zeroline=False, **ticks, row=row, col=column)
    figure.update_yaxes(title_text=f"{METRIC_LABELS.get(goal.metric, goal.metric)} {goal.unit and '(%)'}", col=1)
    return figure.update_layout(**LAYOUT, height=110 + 290 * lines, showlegend=False)


def _scatter(axis: ParameterAxis, rows: Sequence[Ranked], goal: Objective, shades: list[list[Any]]) -> go.Scatter:
    values = values_of(rows)
    spread = [row.std or 0.0 for row in rows]
    told = [
        f"{goal.format(value)} {goal.unit} (n={row.n}, {row.state})<br>{_escaped(caption(row))}<br>{row.run_ids[0]}"
        for value, row in zip(values, rows, strict=True)
    ]
    return go.Scatter(
        x=axis.places,
        y=values,
        error_y={"array": spread, "color": "#666666", "thickness": 1} if any(spread) else None,
        mode="markers",
        text=told,
        hoverinfo="text",
        marker={
            "color": values,
            "colorscale": shades,
            "size": [16 if rank == 0 else 8 for rank in range(len(rows))],
            "symbol": [
                "star" if rank == 0 else "circle" if row.state == "finished" else "triangle-up-open"
                for rank, row in enumerate(rows)
            ],
            "line": {"width": 1, "color": "black"},
        },
    )
