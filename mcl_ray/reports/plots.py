"""The PNG figures of a search: parallel coordinates, importances, accuracy against each parameter.

Learning curves (`curves.py`) and score against cost (`pareto.py`) are re-exported, so that all figures can be imported
from here.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mcl_ray.analysis.ranking import Ranked
from mcl_ray.config.scoring import MEAN, Score
from mcl_ray.reports.axes import NO_FIELDS, ParameterAxis, epoch_axis, parameter_axes, scored, values_of
from mcl_ray.reports.curves import learning_curves, seeds_legend
from mcl_ray.reports.labels import METRIC_LABELS, objective_label, short_names
from mcl_ray.reports.pareto import pareto
from mcl_ray.reports.style import BLACK, GREY, STYLE, end_percent_at_100, palette, save, score_colours
from mcl_ray.reports.trial_plots import add_epoch, history, trial_curves
from mcl_ray.results.queries import Objective

__all__ = [
    "accuracy_by_parameter",
    "history",
    "importance_bars",
    "learning_curves",
    "parallel_coordinates",
    "pareto",
    "save",
    "seeds_legend",
    "trial_curves",
]


def parallel_coordinates(
    rows: Sequence[Ranked],
    objective: str,
    mode: str,
    score: Score = MEAN,
    log_fields: Mapping[str, bool] = NO_FIELDS,
    num_tried: int | None = None,
) -> Figure:
    """Draw one line per configuration through its parameters to its objective, darker for better.

    The title has the number of configurations that were tried, those of `rows` if not given. Where some were stopped
    early, the epoch of the figures has an axis, too.
    """
    drawn, goal = scored(rows), Objective.parse(objective)
    epochs, values = epoch_axis(drawn), values_of(drawn)
    axes = [*parameter_axes(drawn, log_fields), *([] if epochs is None else [epochs])]
    width = max(6.5, 1.7 * (len(axes) + 1) + 1.5)
    with mpl.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(width, 5.0), layout="constrained")
        panel = figure.subplots()
        panel.set_axis_off()
        goal_axis = _objective_axis(goal, values)
        colours, scale = score_colours(mode), Normalize(*goal_axis.limits)
        for rank in reversed(range(len(drawn))):
            heights = [_height(axis, axis.positions[rank]) for axis in (*axes, goal_axis)]
            best = rank == 0
            style: dict[str, Any] = {
                "linewidth": 2.6 if best else 1.1,
                "marker": "o" if best else None,
                "alpha": 1.0 if best else 0.75,
            }
            panel.plot(range(len(heights)), heights, color=colours(scale(values[rank])), clip_on=False, **style)
        for position, axis in enumerate((*axes, goal_axis)):
            _draw_axis(panel, position, axis, is_last=position == len(axes))
        panel.set_xlim(-0.35, len(axes) + 0.45)
        bar = figure.colorbar(ScalarMappable(scale, colours), ax=panel, pad=0.01, aspect=30)
        bar.set_label(textwrap.fill(score.label(objective_label(goal), mode), 60))
        tried = num_tried or sum(not row.is_compared for row in rows)
        figure.suptitle(f"{len(drawn)} of {tried} configurations; thick with dots: the best", fontsize=10)
    return figure


def _objective_axis(objective: Objective, values: Sequence[float]) -> ParameterAxis:
    low, high = min(values), max(values)
    ticks = tuple(
        (value, objective.format(value)) for value in ([low] if low == high else [low, (low + high) / 2, high])
    )
    label = f"{METRIC_LABELS.get(objective.metric, objective.metric)}{' (%)' if objective.unit else ''}"
    return ParameterAxis(parameter=objective.key, label=label, kind="linear", positions=tuple(values), ticks=ticks)


def _height(axis: ParameterAxis, position: float) -> float:
    low, high = axis.limits
    return (position - low) / (high - low)


def _draw_axis(panel: Axes, position: int, axis: ParameterAxis, *, is_last: bool) -> None:
    panel.plot([position, position], [0, 1], color=GREY, linewidth=1, zorder=3)
    label = textwrap.fill(axis.label, 15)
    panel.annotate(label, (position, 1), (0, 12), textcoords="offset points", ha="center", va="bottom", fontsize=9.5)
    for tick, name in axis.ticks:
        box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.8}
        side: dict[str, Any] = {"xytext": (6, 0), "ha": "left"} if is_last else {"xytext": (-6, 0), "ha": "right"}
        panel.plot([position], [_height(axis, tick)], marker="_", color=GREY, markersize=7, zorder=3)
        panel.annotate(
            name,
            (position, _height(axis, tick)),
            textcoords="offset points",
            va="center",
            fontsize=8,
            bbox=box,
            zorder=5,
            **side,
        )


def importance_bars(importances: Mapping[str, float], objective: str) -> Figure:
    """Draw the share of the objective's variance that each parameter explains."""
    ordered = sorted(importances.items(), key=lambda item: item[1])
    names = short_names([name for name, _ in ordered])
    with mpl.rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure = Figure(figsize=(7.5, 1.4 + 0.36 * len(ordered)), layout="constrained")
        panel = figure.subplots()
        labels = [textwrap.fill(names[name], 28) for name, _ in ordered]
        bars = panel.barh(range(len(ordered)), [100 * value for _, value in ordered], color=palette(0.35), height=0.62)
        panel.set_yticks(range(len(ordered)), labels)
        panel.bar_label(bars, [f"{100 * value:.1f}" for _, value in ordered], padding=3)
        panel.set_xlim(0, 100)
        panel.set_xlabel(textwrap.fill(f"Share of the variance of {objective} that it explains (%)", 80))
    return figure


def accuracy_by_parameter(
    rows: Sequence[Ranked],
    objective: str,
    mode: str = "max",
    score: Score = MEAN,
    log_fields: Mapping[str, bool] = NO_FIELDS,
) -> Figure:
    """Draw the score, ± the standard deviation over seeds, against each searched parameter, one panel each.

    The epoch of the figure stands beside configurations that were stopped early.
    """
    drawn, label = scored(rows), score.label(objective_label(Objective.parse(objective)), mode)
    axes = parameter_axes(drawn, log_fields)
    columns = min(3, len(axes))
    lines = math.ceil(len(axes) / columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.2 + 3.4 * columns, 0.7 + 2.9 * lines), layout="constrained")
        panels = list(figure.subplots(lines, columns, squeeze=False, sharey=True).flat)
        for panel, axis in zip(panels, axes, strict=False):
            _draw_scatter(panel, axis, drawn)
            end_percent_at_100(panel, Objective.parse(objective))
        for panel in panels[len(axes) :]:
            panel.set_axis_off()
        figure.supylabel(textwrap.fill(label, 40 if lines == 1 else 80), fontsize=9.5)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False, fontsize=8.5)
    return figure


def _draw_scatter(panel: Axes, axis: ParameterAxis, rows: Sequence[Ranked]) -> None:
    stopped = "stopped early, with the epoch"
    styles = {"trained to the end": ("o", (*palette(0.25)[:3], 0.55)), stopped: ("^", "none"), "best": ("*", BLACK)}
    for name, (marker, face) in styles.items():
        chosen = [
            (axis.positions[rank], row)
            for rank, row in enumerate(rows)
            if name == ("best" if rank == 0 else "trained to the end" if row.state == "finished" else stopped)
        ]
        if not chosen:
            continue
        xs, ys = [position for position, _ in chosen], values_of([row for _, row in chosen])
        spread = [row.std or 0.0 for _, row in chosen]
        if any(spread):
            panel.errorbar(xs, ys, yerr=spread, fmt="none", ecolor=GREY, elinewidth=0.8, zorder=2)
        size = 130 if name == "best" else 26
        panel.scatter(
            xs,
            ys,
            s=size,
            marker=marker,
            facecolors=face,
            edgecolors=BLACK,
            linewidths=0.7,
            label=name,
            zorder=3,
            clip_on=False,
        )
        for position, row in chosen if name == stopped else ():
            add_epoch(panel, position, row)
    low, high = axis.limits
    panel.set_xlim(low - 0.07 * (high - low), high + 0.07 * (high - low))
    crowded = max(len(name) for _, name in axis.ticks) > 10 or sum(len(name) for _, name in axis.ticks) > 26
    rotation: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    panel.set_xticks([position for position, _ in axis.ticks], [name for _, name in axis.ticks], fontsize=8, **rotation)
    panel.set_xlabel(textwrap.fill(axis.label + (" (log scale)" if axis.kind == "log" else ""), 32))
