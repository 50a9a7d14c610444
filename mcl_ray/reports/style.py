"""Style of the PNG figures: a palette that is ordered by luminance, common settings, and saving.

The figures are drawn in `curves.py`, `plots.py` and `pareto.py`.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

from mcl_ray.results.atomic_io import write_atomically
from mcl_ray.results.queries import Objective

DARKEST, PALEST = 0.0, 0.82
DPI = 150
STYLE: Any = {
    "font.size": 9.0,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
BLACK, GREY, BAND = "#000000", "#666666", "#c4c4c4"


def palette(share: float) -> tuple[float, float, float, float]:
    """Return a colour of cividis, from dark (0) to the palest that is visible on white (1)."""
    colour = mpl.colormaps["cividis"](DARKEST + (PALEST - DARKEST) * share)
    return (colour[0], colour[1], colour[2], colour[3])


def end_percent_at_100(panel: Axes, objective: Objective) -> None:
    """End the vertical axis of a percentage at 100, and begin it at 0 or above."""
    if objective.unit == "%":
        low, high = panel.get_ylim()
        panel.set_ylim(max(low, 0.0), min(high, 100.0) if low < 100.0 else high)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG.

    Raises:
        StoreError: the file cannot be written.
    """
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=DPI)
    write_atomically(path, buffer.getvalue())


def score_colours(mode: str) -> Colormap:
    """Return the colour map of scores, in which better is darker, as dark lines stand out on white."""
    colours = [palette(share / 32) for share in range(33)]
    return LinearSegmentedColormap.from_list("score", colours[::-1] if mode == "max" else colours)
