"""The PNG figure of score against each cost, with the Pareto front.

The front is computed in `mcl_ray.analysis.ranking`; the same figure for the page is in `interactive_pareto.py`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from mcl_ray.analysis.ranking import Ranked, pareto_front
from mcl_ray.config.scoring import Scoring
from mcl_ray.reports.axes import LOG_FROM_RATIO, scored
from mcl_ray.reports.labels import cost_label, objective_label, unit_of
from mcl_ray.reports.style import BLACK, GREY, STYLE, end_percent_at_100, palette
from mcl_ray.results.queries import Objective

LABEL_STEPS = 12
DOT_RADIUS = 3.0


def pareto(rows: Sequence[Ranked], objective: str, mode: str, scoring: Scoring) -> Figure:
    """Draw one panel per cost; a number is a configuration's place in the ranking.

    The step line is the best score at this cost or less, whatever the other costs are. With several costs, a
    configuration on the common front may lie below it.
    """
    drawn = priced(rows, scoring.costs)
    front = pareto_front(drawn, scoring.costs, mode)
    columns = len(scoring.costs)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.6 + 4.6 * columns, 4.6), layout="constrained")
        panels = list(figure.subplots(1, columns, squeeze=False, sharey=True).flat)
        for panel, cost in zip(panels, scoring.costs, strict=True):
            _draw_cost(panel, cost, drawn, front, mode, Objective.parse(objective))
        label = scoring.score.label(objective_label(Objective.parse(objective)), mode)
        figure.supylabel(textwrap.fill(label, 56), fontsize=9.5)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=8.5)
        figure.draw_without_rendering()  # positions are known only after the layout
        for panel, cost in zip(panels, scoring.costs, strict=True):
            _add_places(panel, cost, drawn, front, mode)
    return figure


def priced(rows: Sequence[Ranked], costs: Sequence[str]) -> list[Ranked]:
    """Return the rows that have a score and every cost, best first, without the baseline."""
    return [row for row in scored(rows) if all(cost in row.costs for cost in costs)]


def is_log(cost: str, rows: Sequence[Ranked]) -> bool:
    """Return whether the values of a cost differ too much for a linear axis."""
    values = [row.costs[cost] for row in rows]
    return min(values) > 0 and max(values) / min(values) >= LOG_FROM_RATIO


def beside(row: Ranked, *, has_place: bool) -> str:
    """Return the text beside a point: its place, and the epoch of its figure if it did not train to the end."""
    place = str(row.place) if has_place else ""
    return place if row.state == "finished" else f"{place} (epoch {row.epochs_done})".strip()


def step_line(rows: Sequence[Ranked], cost: str, mode: str) -> list[tuple[float, float]]:
    """Return cost and score along the front of one cost, continued to the configuration of the highest cost."""
    ordered = sorted(pareto_front(rows, [cost], mode), key=lambda row: row.costs[cost])
    corners = [(row.costs[cost], row.score or 0.0) for row in ordered]
    return [*corners, (max(row.costs[cost] for row in rows), corners[-1][1])]


def _draw_cost(
    panel: Axes, cost: str, rows: Sequence[Ranked], front: Sequence[Ranked], mode: str, objective: Objective
) -> None:
    unit = unit_of(cost, [row.costs[cost] for row in rows])
    line = step_line(rows, cost, mode)
    xs, ys = [x / unit.size for x, _ in line], [y for _, y in line]
    panel.plot(xs, ys, drawstyle="steps-post", color=BLACK, linewidth=1.2, zorder=2, label="best at this cost or less")
    on_front = {id(row) for row in front}
    styles: dict[str, dict[str, Any]] = {
        "on the Pareto front": {"marker": "o", "s": 42, "facecolors": BLACK, "edgecolors": BLACK, "zorder": 4},
        "beaten by another": {"marker": "o", "s": 24, "facecolors": "none", "edgecolors": palette(0.5), "zorder": 3},
    }
    for name, style in styles.items():
        chosen = [row for row in rows if (id(row) in on_front) == (name == "on the Pareto front")]
        at, scores = [row.costs[cost] / unit.size for row in chosen], [row.score or 0.0 for row in chosen]
        spread = [row.std or 0.0 for row in chosen]
        if any(spread):
            panel.errorbar(at, scores, yerr=spread, fmt="none", ecolor=GREY, elinewidth=0.8, zorder=1)
        panel.scatter(at, scores, linewidths=0.9, label=name, **style)
    if is_log(cost, rows):
        panel.set_xscale("log")
    panel.margins(x=0.08, y=0.1)
    end_percent_at_100(panel, objective)
    panel.set_xlabel(cost_label(cost, unit) + (", log scale" if is_log(cost, rows) else ""))


def _add_places(panel: Axes, cost: str, rows: Sequence[Ranked], front: Sequence[Ranked], mode: str) -> None:
    """Write the text of each configuration beside its point, clear of points and other texts.

    A text without a free position is left out; the table has it.
    """
    size, up = unit_of(cost, [row.costs[cost] for row in rows]).size, 1 if mode == "max" else -1
    near = [(-5.0, 5.0 * up), (5.0, -5.0 * up), (5.0, 5.0 * up), (-5.0, -5.0 * up)]
    far = [(-5.0, up * (5.0 + 9.0 * step)) for step in range(1, LABEL_STEPS)]
    taken = [_dot(panel, row.costs[cost] / size, row.score or 0.0) for row in rows]
    on_front = {id(row) for row in front}
    labels = [(row, beside(row, has_place=id(row) in on_front)) for row in rows]
    for row, label in sorted(labels, key=lambda one: one[0].costs[cost]):
        if not label:
            continue
        at = (row.costs[cost] / size, row.score or 0.0)
        for offset in near + far:
            text = _annotated(panel, label, at, offset)
            extent = text.get_window_extent().padded(1.0)
            if not any(extent.overlaps(other) for other in taken):
                taken.append(extent)
                if offset in far:
                    _annotated(panel, "", at, offset, {"arrowstyle": "-", "color": GREY})
                break
            text.remove()


def _dot(panel: Axes, x: float, y: float) -> Bbox:
    """Return the box of a point, in pixels."""
    across, up = panel.transData.transform((x, y))
    radius = DOT_RADIUS * panel.figure.get_dpi() / 72
    return Bbox.from_extents(across - radius, up - radius, across + radius, up + radius)


def _annotated(
    panel: Axes, label: str, at: tuple[float, float], offset: tuple[float, float], line: dict[str, Any] | None = None
) -> Annotation:
    return panel.annotate(
        label,
        at,
        offset,
        textcoords="offset points",
        ha="right" if offset[0] < 0 else "left",
        va="bottom" if offset[1] > 0 else "top",
        fontsize=8.5,
        zorder=5,
        bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6} if label else None,
        arrowprops=line,
    )
