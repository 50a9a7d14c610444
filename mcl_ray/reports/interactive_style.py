"""Layout, colours, labels and axes of percentages that the figures of the page share."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterable, Sequence

import plotly.graph_objects as go

from mcl_ray.analysis.ranking import Ranked
from mcl_ray.reports.style import palette
from mcl_ray.results.queries import Objective

FEW_EPOCHS = 6
"""Up to this number, every epoch has a tick of its own."""
MARGINS = {"l": 10, "r": 16, "t": 24, "b": 10}
CLEAR = "rgba(0,0,0,0)"
LAYOUT = {
    "template": "plotly_white",
    "font": {"size": 13},
    "margin": MARGINS,
    "xaxis_automargin": True,
    "yaxis_automargin": True,
    "paper_bgcolor": CLEAR,
    "plot_bgcolor": CLEAR,
}
LEGEND_BELOW = {"orientation": "h", "y": -0.16, "yanchor": "top", "x": 0}


def colour_at(share: float) -> str:
    """Return a colour of the PNG figures' palette in CSS notation."""
    red, green, blue, _ = (round(255 * part) for part in palette(share))
    return f"rgb({red},{green},{blue})"


def escaped(text: str) -> str:
    """Escape a label, which plotly parses as HTML."""
    return html.escape(text, quote=True)


def in_lines(text: str, width: int) -> str:
    """Escape a label, and wrap it at `width` characters."""
    return "<br>".join(map(escaped, textwrap.wrap(text, width)))


def percent_range(values: Iterable[float | None]) -> list[float] | None:
    """Return the range of an axis of percentages, which ends at 100 at the latest; None without a value."""
    found = [value for value in values if value is not None and math.isfinite(value)]
    if not found:
        return None
    margin = 0.08 * (max(found) - min(found)) or 1.0
    return [max(0.0, min(found) - margin), min(100.0, max(found) + margin)]


def end_percent_at_100(figure: go.Figure, objective: Objective, values: Iterable[float | None], **panel: int) -> None:
    """Let the vertical axis of a percentage show these values and end at 100; points on that edge are drawn whole."""
    if objective.unit == "%":
        figure.update_yaxes(range=percent_range(values), **panel)
        figure.update_traces(cliponaxis=False, selector={"type": "scatter"}, **panel)


def with_spread(rows: Sequence[Ranked]) -> list[float]:
    """Return the ends of the error bars of rows that have a score."""
    return [row.score + sign * (row.std or 0.0) for row in rows if row.score is not None for sign in (-1, 1)]
