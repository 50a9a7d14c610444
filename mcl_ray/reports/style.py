"""How the PNG figures look: colours that fall in luminance, one style for all, and the way to a file.

What is drawn is `curves.py` and `plots.py`.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

from mcl_ray.results.atomic_io import write_atomically

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
    """Cividis from dark (0) to as pale (1) as still shows on white."""
    colour = mpl.colormaps["cividis"](DARKEST + (PALEST - DARKEST) * share)
    return (colour[0], colour[1], colour[2], colour[3])


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=DPI)
    write_atomically(path, buffer.getvalue())


def goodness(mode: str) -> Colormap:
    """Dark is good: dark ink is what the eye finds on white."""
    colours = [palette(share / 32) for share in range(33)]
    return LinearSegmentedColormap.from_list("goodness", colours[::-1] if mode == "max" else colours)
