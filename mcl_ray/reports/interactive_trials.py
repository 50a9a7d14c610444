"""The figures of a sweep's trials for the page, with plotly; data and names are those of `trial_plots.py`."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from mcl_ray.analysis.ranking import Ranked
from mcl_ray.config.scoring import Score
from mcl_ray.reports.interactive import hover_text
from mcl_ray.reports.interactive_style import (
    FEW_EPOCHS,
    LAYOUT,
    LEGEND_BELOW,
    colour_at,
    end_percent_at_100,
    in_lines,
    with_spread,
)
from mcl_ray.reports.labels import objective_label
from mcl_ray.reports.trials import Trial, best_so_far, later_values
from mcl_ray.results.queries import Objective


def trial_curves(trials: Sequence[Trial], rungs: Sequence[int], objective: Objective) -> go.Figure:
    """Draw the objective of every trial by epoch, the best one widest, and the rungs as dotted lines."""
    traces: list[go.Scatter] = []
    in_legend: set[str] = set()
    best = min(trials, key=lambda trial: trial.row.place or len(trials) + 1)
    for trial in sorted(trials, key=lambda trial: trial is best):
        kind = "best" if trial is best else "trained to the end" if trial.has_finished else "stopped early"
        colour = {"best": "black", "trained to the end": colour_at(0.35), "stopped early": colour_at(1.0)}[kind]
        last = len(trial.curve) - 1
        trace = go.Scatter(
            x=[point.epoch for point in trial.curve],
            y=[point.mean for point in trial.curve],
            mode="lines+markers",
            line={"color": colour, "width": 3.5 if trial is best else 1.3},
            marker={
                "symbol": "circle" if trial.has_finished else "x",
                "size": [7 if place == last else 0 for place in range(last + 1)],
            },
            text=[
                f"trial {trial.number}, epoch {point.epoch}<br>{hover_text(trial.row, objective)}"
                for point in trial.curve
            ],
            hoverinfo="text",
            name=kind,
            legendgroup=kind,
            showlegend=kind not in in_legend,
        )
        in_legend.add(kind)
        traces.append(trace)
    figure = go.Figure(traces)  # at once: each further trace would copy the earlier ones
    for epoch in rungs:
        figure.add_vline(epoch, line={"dash": "dot", "color": "#777777", "width": 1.5})
    figure.update_xaxes(title_text="Epoch", rangemode="tozero", zeroline=False)
    if max(point.epoch for trial in trials for point in trial.curve) <= FEW_EPOCHS:
        figure.update_xaxes(dtick=1)
    figure.update_yaxes(title_text=in_lines(objective_label(objective), 36))
    end_percent_at_100(figure, objective, later_values(trials))
    return figure.update_layout(**LAYOUT, height=460, legend=LEGEND_BELOW)


def history(
    trials: Sequence[Trial], baseline: Ranked | None, objective: Objective, mode: str, score: Score
) -> go.Figure:
    """Draw the score of each trial by its number, and the best so far of those that trained to the end."""
    figure = go.Figure()
    steps = best_so_far(trials, mode)
    if steps:
        xs, ys = zip(*steps, (trials[-1].number, steps[-1][1]), strict=True)
        figure.add_scatter(x=xs, y=ys, name="best so far", line={"shape": "hv", "color": "black"}, hoverinfo="skip")
        figure.data[-1].mode = "lines"
    for name, symbol in (("trained to the end", "circle"), ("stopped early, with the epoch", "triangle-up-open")):
        chosen = [trial for trial in trials if trial.has_finished == (symbol == "circle")]
        if chosen:
            figure.add_trace(_points(chosen, name, symbol, objective))
    if baseline is not None and baseline.score is not None:
        line = {"dash": "dash", "color": "#777777", "width": 1.5}
        figure.add_hline(baseline.score, line=line, annotation_text="baseline", annotation_position="bottom left")
    figure.update_xaxes(title_text="Trial", zeroline=False)
    figure.update_yaxes(title_text=in_lines(score.label(objective_label(objective), mode), 36))
    drawn = [trial.row for trial in trials] + ([] if baseline is None else [baseline])
    end_percent_at_100(figure, objective, with_spread(drawn))
    return figure.update_layout(**LAYOUT, height=420, legend=LEGEND_BELOW)


def _label(trial: Trial, objective: Objective) -> str:
    return f"trial {trial.number}<br>{hover_text(trial.row, objective)}"


def _points(trials: Sequence[Trial], name: str, symbol: str, objective: Objective) -> go.Scatter:
    spread = [trial.row.std or 0.0 for trial in trials]
    is_stopped = symbol != "circle"
    return go.Scatter(
        x=[trial.number for trial in trials],
        y=[trial.row.score for trial in trials],
        error_y={"array": spread, "color": "#666666", "thickness": 1} if any(spread) else None,
        mode="markers+text" if is_stopped else "markers",
        text=[str(trial.row.epochs_done) for trial in trials] if is_stopped else None,
        textposition="top center",
        textfont={"size": 10, "color": "#555555"},
        hovertext=[_label(trial, objective) for trial in trials],
        hoverinfo="text",
        marker={"symbol": symbol, "size": 9, "color": "black" if is_stopped else colour_at(0.35)},
        name=name,
        cliponaxis=False,
    )
