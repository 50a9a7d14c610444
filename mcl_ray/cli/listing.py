"""The commands that list recipes, searches, suites and fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.table import Table

from mcl_ray.cli import app
from mcl_ray.config import yaml12
from mcl_ray.config.overrides import field_paths
from mcl_ray.config.plugins import import_installed
from mcl_ray.config.recipes import RECIPES
from mcl_ray.config.spec import RunSpec


def recipes() -> None:
    """List the recipes: runs known by name."""
    _print("recipe", RECIPES)


def searches() -> None:
    """List the searches: sweeps known by name."""
    from searches.spec.search_registry import SEARCHES

    _print("search", SEARCHES)


def suites() -> None:
    """List the suites: tables whose rows are known by name."""
    from searches.spec.suite_registry import SUITES

    _print("suite", SUITES)


def fields() -> None:
    """List every field of a run, of a search and of a suite, with its default and its meaning."""
    from searches.spec.suite import SuiteSpec
    from searches.spec.sweep import SweepSpec

    table = Table("field", "default", "meaning", box=None, pad_edge=False)
    for path, field in field_paths(RunSpec):
        table.add_row(path, _default(field), field.description)
    models: dict[str, type[BaseModel]] = {"search": SweepSpec, "suite": SuiteSpec}
    for kind, model in models.items():
        table.add_section()
        for path, field in field_paths(model):
            if not path.startswith("run."):
                table.add_row(f"{path} ({kind})", _default(field), field.description)
    app.stdout().print(table)


def _default(field: FieldInfo) -> str:
    return "" if field.is_required() else yaml12.inline(field.get_default(call_default_factory=True))


def _print(kind: str, known: Mapping[str, Callable[[], object]]) -> None:
    import_installed()
    table = Table(kind, "what it is", box=None, pad_edge=False)
    for name, function in known.items():
        table.add_row(name, function.__doc__)
    app.stdout().print(table)
