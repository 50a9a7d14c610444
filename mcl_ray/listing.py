"""The doors that list what is known by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich.table import Table

from mcl_ray import doors
from mcl_ray.recipes import RECIPES


def recipes() -> None:
    """List the recipes: runs known by name."""
    _print("recipe", RECIPES)


def searches() -> None:
    """List the searches: sweeps known by name."""
    from searches.catalog import SEARCHES

    _print("search", SEARCHES)


def _print(kind: str, known: Mapping[str, Callable[[], object]]) -> None:
    table = Table(kind, "what it is", box=None, pad_edge=False)
    for name, function in known.items():
        table.add_row(name, function.__doc__)
    doors.stdout().print(table)
