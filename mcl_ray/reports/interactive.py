"""The figures of the page, with plotly; data, names and axes are those of `plots.py` and `curves.py`.

plotly parses labels as HTML, so every user string is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import pyarrow as pa
from plotly.subplots import make_subplots

from mcl_ray.analysis.ranking import Ranked
from mcl_ray.config.scoring import MEAN, Score
from mcl_ray.reports.axes import NO_FIELDS, ParameterAxis, epoch_axis, parameter_axes, scored, values_of
from mcl_ray.reports.curves import wants_log
from mcl_ray.reports.interactive_style import (
    FEW_EPOCHS,
    LAYOUT,
    LEGEND_BELOW,
    MARGINS,
    colour_at,
    end_percent_at_100,
    escaped,
    in_lines,
    with_spread,
)
from mcl_ray.reports.labels import (
    LOSS_LABELS,
    MEMBER_LABELS,
    METRIC_LABELS,
    caption,
    objective_label,
    short_names,
    shortened,
)
from mcl_ray.results import queries
from mcl_ray.results.queries import Objective, Spread

DASHES = ("solid", "dash", "dashdot", "dot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "star", "cross", "x")
MAX_LABEL_LENGTH = 26
"""Characters of an axis label."""


def learning_curves(epochs: pa.Table, run_ids: Sequence[str]) -> go.Figure:
    """Draw the accuracies of peers, mean and ensemble on each scored split, and the terms of the training loss.

    For several runs, lines are means and bands ± their sample standard deviation, as in `curves.py`.
    """
    own = queries.of_runs(epochs, run_ids)
    metric = queries.accuracy(own)
    splits = [split for split in queries.scored_splits(own) if _curve(own, Objective(split, metric, "mean"))]
    rows = len(splits) + 1
    figure = make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    for row, split in enumerate(splits, start=1):
        start = len(figure.data)
        _add_accuracies(figure, own, split, row)
        figure.update_yaxes(title_text=f"{METRIC_LABELS[metric]},<br>{split} (%)", row=row, col=1)
        drawn = [value for trace in figure.data[start:] for value in trace.y]
        end_percent_at_100(figure, Objective(split, metric, "mean"), drawn, row=row, col=1)
    losses = {term: _curve(own, Objective("train", term, "cohort")) for term in LOSS_LABELS}
    losses = {term: curve for term, curve in losses.items() if curve}
    for rank, (term, curve) in enumerate(losses.items()):
        style = {"color": colour_at(rank / max(1, len(losses) - 1)), "dash": DASHES[rank % 4], "width": 2}
        _add_curve(figure, curve, rank, LOSS_LABELS[term], style, rows, "training loss", has_band=True)
    scale = "log" if wants_log(losses) else "linear"
    figure.update_yaxes(title_text="Training loss<br>and its terms", type=scale, row=rows, col=1)
    figure.update_xaxes(title_text="Epoch", row=rows, col=1)
    if len(set(own["epoch"].to_pylist())) <= FEW_EPOCHS:
        figure.update_xaxes(dtick=1)  # otherwise plotly would add fractions of epochs
    figure.update_yaxes(automargin=True)
    below = LEGEND_BELOW | {"y": -0.16 / rows, "groupclick": "toggleitem"}
    return figure.update_layout(**LAYOUT, height=90 + 320 * rows, legend=below)


def _curve(own: pa.Table, objective: Objective) -> list[Spread]:
    return queries.spread(queries.points(own, objective).values())


def _add_accuracies(figure: go.Figure, own: pa.Table, split: str, row: int) -> None:
    names = [name for name in queries.members(own, split) if name != "best"]
    num_peers = sum(name.startswith("peer") for name in names)
    for rank, name in enumerate(names):
        style: dict[str, Any]
        is_peer = name.startswith("peer")
        if is_peer:
            style = {"color": colour_at(rank / max(1, num_peers - 1)), "dash": DASHES[rank % 4], "width": 1.4}
        else:
            style = {
                "color": "rgb(0,0,0)" if name == "ensemble" else "rgb(184,184,184)",
                "dash": "dash" if name == "ensemble" else "solid",
            }
            style["width"] = 2.5 if name == "ensemble" else 6
        curve = _curve(own, Objective(split, queries.accuracy(own), name))
        label = MEMBER_LABELS.get(name, name)
        _add_curve(figure, curve, rank, label, style, row, f"top-1, {split}", has_band=not is_peer)


def _add_curve(
    figure: go.Figure,
    curve: Sequence[Spread],
    rank: int,
    name: str,
    line: dict[str, Any],
    row: int,
    group: str,
    *,
    has_band: bool,
) -> None:
    trace = go.Scatter(
        x=[point.epoch for point in curve],
        y=[point.mean if math.isfinite(point.mean) else None for point in curve],
        name=escaped(name),
        mode="lines+markers",
        line=line,
        marker={"symbol": SYMBOLS[rank % len(SYMBOLS)], "size": 7, "maxdisplayed": 10},
        legendgroup=group,
        zorder=0 if name == MEMBER_LABELS["mean"] else 1,
        legendgrouptitle={"text": group},
    )
    figure.add_trace(trace, row=row, col=1)
    wide = [(point.epoch, point.mean, point.std) for point in curve if point.std is not None]
    if wide and has_band:
        figure.add_trace(_band(wide, line["color"]), row=row, col=1)


def _band(wide: Sequence[tuple[int, float, float]], colour: str) -> go.Scatter:
    """Draw the outline of a band: the upper edge forwards, then the lower edge backwards."""
    epochs = [epoch for epoch, _, _ in wide]
    edge = [mean + std for _, mean, std in wide] + [mean - std for _, mean, std in reversed(wide)]
    return go.Scatter(
        x=epochs + epochs[::-1],
        y=edge,
        fill="toself",
        fillcolor=colour.replace("rgb(", "rgba(").replace(")", ",0.25)"),
        mode="none",
        hoverinfo="skip",
        showlegend=False,
        zorder=-1,
    )


def parallel_coordinates(
    rows: Sequence[Ranked], objective: str, mode: str, score: Score = MEAN, log_fields: Mapping[str, bool] = NO_FIELDS
) -> go.Figure:
    """Draw one line per configuration, darker for better; dragging along an axis selects lines.

    Where some were stopped early, the epoch of the figures has an axis, too.
    """
    drawn, goal = scored(rows), Objective.parse(objective)
    values = values_of(drawn)
    low, high = min(values), max(values)
    limits = (low, high) if high > low else (low - 0.5, high + 0.5)
    label = f"{METRIC_LABELS.get(goal.metric, goal.metric)}{' (%)' if goal.unit else ''}"
    epochs = epoch_axis(drawn)
    axes = [*parameter_axes(drawn, log_fields), *([] if epochs is None else [epochs])]
    dimensions = [_dimension(axis) for axis in axes]
    dimensions.append({"label": escaped(shortened(label, MAX_LABEL_LENGTH)), "values": values, "range": limits})
    shades = [[share / 8, colour_at(1 - share / 8 if mode == "max" else share / 8)] for share in range(9)]
    line = {"color": values, "colorscale": shades, "cmin": limits[0], "cmax": limits[1], "showscale": True}
    line["colorbar"] = {"title": {"text": in_lines(score.label(objective_label(goal), mode), 44), "side": "right"}}
    figure = go.Figure(go.Parcoords(dimensions=dimensions, line=line, labelfont={"size": 13}, tickfont={"size": 11}))
    margins = MARGINS | {"t": 80, "l": 70, "b": 30}
    return figure.update_layout(**(LAYOUT | {"margin": margins}), height=460)


def _dimension(axis: ParameterAxis) -> dict[str, Any]:
    return {
        "label": escaped(shortened(axis.label, MAX_LABEL_LENGTH)),
        "values": axis.positions,
        "range": axis.limits,
        "tickvals": [position for position, _ in axis.ticks],
        "ticktext": [escaped(name) for _, name in axis.ticks],
    }


def importance_bars(importances: Mapping[str, float], objective: str) -> go.Figure:
    """Draw the share of the objective's variance that each parameter explains."""
    ordered = sorted(importances.items(), key=lambda item: item[1])
    names = short_names([name for name, _ in ordered])
    shares = [100 * value for _, value in ordered]
    bars = go.Bar(
        x=shares,
        y=[escaped(shortened(names[name], MAX_LABEL_LENGTH)) for name, _ in ordered],
        text=[f"{share:.1f} %" for share in shares],
        textposition="outside",
        cliponaxis=False,
        orientation="h",
        marker={"color": colour_at(0.35)},
    )
    figure = go.Figure(bars)
    figure.update_xaxes(title_text=in_lines(f"Share of the variance of {objective} (%)", 40), range=[0, 100])
    margins = MARGINS | {"r": 60}
    return figure.update_layout(**(LAYOUT | {"margin": margins}), height=140 + 34 * len(ordered))


def accuracy_by_parameter(
    rows: Sequence[Ranked], objective: str, mode: str, score: Score = MEAN, log_fields: Mapping[str, bool] = NO_FIELDS
) -> list[go.Figure]:
    """Draw the score, ± the standard deviation over seeds, against each searched parameter, a figure each."""
    drawn, goal = scored(rows), Objective.parse(objective)
    shades = [[share / 8, colour_at(1 - share / 8 if mode == "max" else share / 8)] for share in range(9)]
    name = f"{METRIC_LABELS.get(goal.metric, goal.metric)} {goal.unit and '(%)'}"
    figures = []
    for axis in parameter_axes(drawn, log_fields):
        figure = go.Figure(_scatter(axis, drawn, goal, shades))
        title = escaped(shortened(axis.label, MAX_LABEL_LENGTH)) + (" (log scale)" if axis.kind == "log" else "")
        ticks = {"tickvals": [at for at, _ in axis.ticks], "ticktext": [escaped(name) for _, name in axis.ticks]}
        low, high = axis.limits
        reach = [low - 0.07 * (high - low), high + 0.07 * (high - low)]
        figure.update_xaxes(title_text=title, range=reach, zeroline=False, **ticks)
        figure.update_yaxes(title_text=in_lines(score.label(name, mode), 30))
        end_percent_at_100(figure, goal, with_spread(drawn))
        figures.append(figure.update_layout(**LAYOUT, height=320, showlegend=False))
    return figures


def hover_text(row: Ranked, goal: Objective) -> str:
    """Return the text that is shown when the pointer is on a point."""
    spread = "" if row.std is None else f" ± {goal.format(row.std)}"
    value = "–" if row.score is None else f"{goal.format(row.score)}{spread} {goal.unit}"
    state = row.state if row.state == "finished" else f"{row.state} at epoch {row.epochs_done}"
    return f"{value} (n={row.n}, {state})<br>{escaped(caption(row))}<br>{row.run_ids[0]}"


def _scatter(axis: ParameterAxis, rows: Sequence[Ranked], goal: Objective, shades: list[list[Any]]) -> go.Scatter:
    values = values_of(rows)
    spread = [row.std or 0.0 for row in rows]
    return go.Scatter(
        x=axis.positions,
        y=values,
        error_y={"array": spread, "color": "#666666", "thickness": 1} if any(spread) else None,
        mode="markers+text",
        text=["" if row.state == "finished" else str(row.epochs_done) for row in rows],
        textposition="top center",
        textfont={"size": 10, "color": "#555555"},
        hovertext=[hover_text(row, goal) for row in rows],
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
