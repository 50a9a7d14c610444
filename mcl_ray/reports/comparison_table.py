"""A published table beside the runs of this project, for a terminal, with rich.

The comparison itself is in `mcl_ray.analysis.comparison`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mcl_ray.analysis.comparison import Cell, Comparison, Section, Seeds
from mcl_ray.analysis.published import COLUMN_LABELS, Column, format_figure
from mcl_ray.reports.labels import NO_VALUE

HEADER_WIDTH = 16
FIGURE = "test top-1 of the best peer at its best epoch, %: mean ± std over seeds (n)"


def comparison_view(comparison: Comparison, networks: Collection[str] | None = None) -> Group:
    """Return the whole comparison.

    Networks with a published figure come first.

    Args:
        comparison: From `mcl_ray.analysis.comparison.compare`.
        networks: Published networks to show; all if not given.
    """
    table = comparison.table
    published = [name for name in table.figures if networks is None or name in networks]
    names = list(dict.fromkeys([*published, *(network for network, _ in comparison.reproduced)]))
    parts: list[RenderableType] = [f"{table.title}: {FIGURE}", _published(comparison, names)] if names else []
    for section in comparison.others:
        differing = ", ".join(section.deviations)
        parts += [f"not as published, so compared with nothing: {differing}", _other(section, table.columns)]
    left_out = "; ".join(f"{count} {reason}" for reason, count in comparison.left_out.items())
    notes = [table.note, f"runs left out: {left_out}" if left_out else ""]
    return Group(*(Text(part) if isinstance(part, str) else part for part in [*parts, *filter(None, notes)]))


def _published(comparison: Comparison, networks: Sequence[str]) -> Table:
    """Return three lines for each network: our figures, the published ones, and the differences."""
    columns = comparison.table.columns
    view = _table(("network", ""), columns)
    for network in networks:
        cells: list[Cell] = [(network, column) for column in columns]
        published = comparison.table.figures.get(network, {})
        view.add_row(network, "ours", *_ours(comparison.reproduced, cells))
        figures = [format_figure(published[column]) if column in published else NO_VALUE for column in columns]
        view.add_row("", "published", *figures)
        differences = [comparison.difference(cell) for cell in cells]
        if any(difference is not None for difference in differences):
            view.add_row("", "difference", *(NO_VALUE if d is None else f"{d:+.2f}" for d in differences))
    return view


def _other(section: Section, columns: Sequence[Column]) -> Table:
    view = _table(("network",), columns)
    for network in dict.fromkeys(network for network, _ in section.cells):
        view.add_row(network, *_ours(section.cells, [(network, column) for column in columns]))
    return view


def _ours(seeds: Mapping[Cell, Seeds], cells: Sequence[Cell]) -> list[str]:
    return [f"{format_figure(seeds[cell].figure)} ({seeds[cell].n})" if cell in seeds else NO_VALUE for cell in cells]


def _table(headers: Sequence[str], columns: Sequence[Column]) -> Table:
    view = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for header in headers:
        view.add_column(header, no_wrap=True)
    for column in columns:
        view.add_column(textwrap.fill(COLUMN_LABELS[column], HEADER_WIDTH), justify="right", overflow="fold")
    return view
