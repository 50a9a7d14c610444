"""The PNG figure of learning curves, of one run or of a configuration's seeds: accuracies and terms of the loss.

The figures of a search are in `plots.py`.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mcl_ray.reports.labels import LOSS_LABELS, MEMBER_LABELS, METRIC_LABELS
from mcl_ray.reports.style import BAND, BLACK, GREY, STYLE, end_percent_at_100, palette
from mcl_ray.results import queries
from mcl_ray.results.queries import Objective, Spread

LINES = ("-", "--", "-.", ":")
MARKERS = "osD^vP*Xd<>ph8H1"
LOG_LOSS_FROM_RATIO = 20.0


def learning_curves(epochs: pa.Table, run_ids: Sequence[str], title: str = "") -> Figure:
    """Draw the accuracies of peers, mean and ensemble on each scored split, and the terms of the training loss.

    Args:
        epochs: The table of epochs.
        run_ids: One run, or the seeds of a configuration. For seeds, a line is their mean, and a band ± their sample
            standard deviation; single peers have no band.
        title: The figure's title; the run's id if not given.
    """
    own = queries.of_runs(epochs, run_ids)
    splits = [
        split for split in queries.scored_splits(own) if _curve(own, Objective(split, queries.accuracy(own), "mean"))
    ]
    legend = seeds_legend(len(run_ids))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.0, 3.5 * (len(splits) + 1)), layout="constrained")
        panels = figure.subplots(len(splits) + 1, 1, squeeze=False, sharex=True)[:, 0]
        for panel, split in zip(panels, splits, strict=False):
            _draw_accuracies(panel, own, split)
        _draw_losses(panels[-1], own)
        panels[-1].set_xlabel("Epoch")
        panels[-1].xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        heading = textwrap.fill(title or run_ids[0], 90)
        figure.suptitle(f"{heading}\n{legend}" if legend else heading, fontsize=10)
    return figure


def seeds_legend(num_runs: int) -> str:
    """Return the meaning of lines and bands for several runs; empty for one."""
    return f"lines: mean over n={num_runs} seeds; bands: ± sample standard deviation" if num_runs > 1 else ""


def _curve(own: pa.Table, objective: Objective) -> list[Spread]:
    return queries.spread(queries.points(own, objective).values())


def _draw(panel: Axes, curve: Sequence[Spread], rank: int, **style: Any) -> None:
    """Draw a curve with staggered markers, so that equal curves can be distinguished."""
    every = max(1, len(curve) // 8)
    panel.plot(
        [point.epoch for point in curve],
        [point.mean for point in curve],
        markevery=(rank % every, every),
        **({"markersize": 4.5} | style),
    )


def _draw_band(panel: Axes, curve: Sequence[Spread], colour: Any) -> None:
    wide = [(point.epoch, point.mean, point.std) for point in curve if point.std is not None]
    if wide:
        lows, highs = ([mean + sign * std for _, mean, std in wide] for sign in (-1, 1))
        style: dict[str, Any] = {"alpha": 0.22, "linewidth": 0.0, "zorder": 1}
        panel.fill_between([epoch for epoch, _, _ in wide], lows, highs, color=colour, **style)


def _draw_accuracies(panel: Axes, own: pa.Table, split: str) -> None:
    names, metric = [name for name in queries.members(own, split) if name != "best"], queries.accuracy(own)
    peers = [name for name in names if name.startswith("peer")]
    for rank, name in enumerate(names):
        style: dict[str, Any]
        curve = _curve(own, Objective(split, metric, name))
        if name in peers:
            style = {
                "color": palette(rank / max(1, len(peers) - 1)),
                "linestyle": LINES[rank % 4],
                "marker": MARKERS[rank % 16],
            }
            style |= {"linewidth": 0.8 if len(peers) > 8 else 1.2, "zorder": 3}
        elif name == "mean":
            # Without a band, the line itself is wide.
            has_no_band = all(point.std is None for point in curve)
            style = {"color": BAND if has_no_band else GREY, "linewidth": 5.0 if has_no_band else 3.0, "zorder": 2}
            style |= {"marker": "_", "markersize": 16.0, "markeredgewidth": 5.0} if len(curve) == 1 else {}
        else:
            style = {"color": BLACK, "linestyle": (0, (5, 1.5)), "linewidth": 1.8, "zorder": 4}
            style |= {"marker": "s", "markerfacecolor": "white"}
        _draw(panel, curve, rank, label=MEMBER_LABELS.get(name, name), **style)
        if name not in peers:
            _draw_band(panel, curve, GREY if name == "mean" else BLACK)
    end_percent_at_100(panel, Objective(split, metric, "mean"))
    panel.set_ylabel(f"{METRIC_LABELS[metric]},\n{split} (%)")
    _legend_beside(panel, len(names))


def _draw_losses(panel: Axes, own: pa.Table) -> None:
    curves = {term: _curve(own, Objective("train", term, "cohort")) for term in LOSS_LABELS}
    curves = {term: curve for term, curve in curves.items() if curve}
    for rank, (term, curve) in enumerate(curves.items()):
        colour = palette(rank / max(1, len(curves) - 1))
        style = {"color": colour, "linestyle": LINES[rank % 4], "marker": MARKERS[rank]}
        _draw(panel, curve, rank, label=LOSS_LABELS[term], linewidth=1.4, **style)
        _draw_band(panel, curve, colour)
    if wants_log(curves):
        panel.set_yscale("log")
    panel.set_ylabel("Training loss and\nits terms")
    _legend_beside(panel, len(curves))


def wants_log(curves: Mapping[str, Sequence[Spread]]) -> bool:
    """Return whether losses differ too much for a linear axis."""
    values = [point.mean for curve in curves.values() for point in curve if math.isfinite(point.mean)]
    return bool(values) and min(values) > 0 and max(values) / min(values) > LOG_LOSS_FROM_RATIO


def _legend_beside(panel: Axes, num_entries: int) -> None:
    if num_entries:
        panel.legend(
            loc="upper left",
            bbox_to_anchor=(1.01, 1.0),
            fontsize=7.5 if num_entries > 12 else 8.5,
            labelspacing=0.25,
            handlelength=3.6,
            frameon=False,
        )
