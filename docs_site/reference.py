"""Pages of the reference, each made from the code by a function."""

from __future__ import annotations

import inspect
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console

import mcl_ray
from api.monitoring import REGISTRY
from api.settings import Settings
from mcl_ray import errors
from mcl_ray.cli import main
from mcl_ray.config import yaml12
from mcl_ray.config.overrides import field_paths
from mcl_ray.config.recipes import RECIPES
from mcl_ray.config.spec import RunSpec
from searches.spec.search_registry import SEARCHES
from searches.spec.suite import SuiteSpec
from searches.spec.suite_registry import SUITES
from searches.spec.sweep import SweepSpec
from trainables.prometheus import GAUGES, RUN_TAGS

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 110
METHODS = ("get", "post", "delete", "put", "patch")


def fields() -> str:
    """Return the fields of a run, a search and a suite."""
    models: dict[str, type[BaseModel]] = {"run": RunSpec, "search": SweepSpec, "suite": SuiteSpec}
    parts = ["# Fields", "What can be replaced by `field=value`, as in `alpha=0.3` or `losses.alpha=0.3`."]
    for kind, model in models.items():
        rows = [
            (f"`{path}`", _code(_default(field)), field.description or "")
            for path, field in field_paths(model)
            if model is RunSpec or not path.startswith("run.")
        ]
        parts += [f"## Of a {kind}", _table(("field", "default", "meaning"), rows)]
    return _page(parts)


def names() -> str:
    """Return the recipes, searches and suites that are known by name."""
    parts = ["# Recipes, searches, suites"]
    for title, known in (("Recipes", RECIPES), ("Searches", SEARCHES), ("Suites", SUITES)):
        rows = [(f"`{name}`", inspect.getdoc(function) or "") for name, function in known.items()]
        parts += [f"## {title}", _table(("name", "what it is"), rows)]
    return _page(parts)


def commands() -> str:
    """Return the help of every command."""
    program = main.program()
    parts = [
        "# Commands",
        "`python -m mcl_ray NAME` is the same as `mcl NAME`.",
    ]
    for words in _words_of(program):
        parts += [f"## mcl {' '.join(words)}", f"```text\n{_help(program, words)}\n```"]
    return _page(parts)


def _words_of(program: Any, before: Sequence[str] = ()) -> Iterable[list[str]]:
    for name in program:
        if not name.startswith("-"):
            words = [*before, name]
            yield words
            yield from _words_of(program[name], words)


def _help(program: Any, words: Sequence[str]) -> str:
    text = io.StringIO()
    program.help_print(list(words), console=Console(file=text, width=WIDTH, no_color=True, legacy_windows=False))
    return "\n".join(line.rstrip() for line in text.getvalue().strip().splitlines())


def rest() -> str:
    """Return the endpoints of the service."""
    described = json.loads((ROOT / "api" / "openapi.json").read_text())
    parts = [
        "# REST",
        "The service describes itself at `/api/v1/openapi.json`; [The service](../service.md) has examples.",
    ]
    for path, methods in described["paths"].items():
        for method, endpoint in ((name, methods[name]) for name in METHODS if name in methods):
            parts += [f"## {method.upper()} {path}", endpoint.get("description", endpoint["summary"])]
            rows = [(f"`{one['name']}`", one["in"], _type(one["schema"])) for one in endpoint.get("parameters", ())]
            parts += [_table(("parameter", "in", "type"), rows)] if rows else []
            body = endpoint.get("requestBody", {}).get("content", {})
            parts += [f"Body: {_type(content['schema'])}." for content in body.values()]
            parts.append("Answers: " + ", ".join(f"{code}" for code in endpoint["responses"]) + ".")
    parts.append("## Messages")
    for name, schema in sorted(described["components"]["schemas"].items()):
        rows = [
            (f"`{field}`", _type(one), one.get("description", ""))
            for field, one in schema.get("properties", {}).items()
        ]
        parts += [
            f"### {name}",
            schema.get("description", ""),
            _table(("field", "type", "meaning"), rows) if rows else "",
        ]
    return _page(parts)


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def settings() -> str:
    """Return the settings of the service."""
    rows = [
        (
            f"`{name}`",
            f"`MCL_{name.upper()}`",
            f"`--{name.replace('_', '-')}`",
            _code(_default(field)),
            field.description or "",
        )
        for name, field in Settings.model_fields.items()
    ]
    return _page(["# Settings of the service", _table(("setting", "variable", "option", "default", "meaning"), rows)])


def python() -> str:
    """Return the public names with their documentation."""
    parts = ["# Python", "`from mcl_ray import …`; [From Python](../python.md) has examples."]
    for name in mcl_ray.__all__:
        value = getattr(mcl_ray, name)
        if isinstance(value, str):
            continue
        parts += [f"## {name}", *_documented(name, value)]
        for member in _public(value):
            parts += [f"### {name}.{member}", *_documented(member, inspect.getattr_static(value, member))]
    return _page(parts)


def _public(value: Any) -> list[str]:
    if inspect.ismodule(value):
        functions = inspect.getmembers(value, inspect.isfunction)
        return [name for name, found in functions if found.__module__ == value.__name__ and name[0] != "_"]
    if not inspect.isclass(value) or issubclass(value, BaseModel):
        return []
    own = [name for name in vars(value) if name[0] != "_"]
    return [
        name for name in own if callable(vars(value)[name]) or isinstance(vars(value)[name], (property, classmethod))
    ]


def _documented(name: str, value: Any) -> list[str]:
    function = getattr(value, "fget", None) or getattr(value, "__func__", None) or value
    parts = []
    if callable(function) and not isinstance(value, property) and not _is_data(value):
        parts.append(f"```python\n{name}{inspect.signature(function)}\n```")
    return [*parts, f"```text\n{inspect.getdoc(function) or ''}\n```"]


def _is_data(value: Any) -> bool:
    """Return whether a value is a class whose signature says nothing: of a spec, or of errors."""
    return inspect.isclass(value) and issubclass(value, (BaseModel, Exception))


def metrics() -> str:
    """Return the metrics of runs and of the service."""
    runs = [(f"`ray_{name}`", _codes((*RUN_TAGS, *kind.tags)), kind.description) for name, kind in GAUGES.items()]
    service = [(f"`{one.name}`", one.type, one.documentation) for one in REGISTRY.collect()]
    return _page(
        [
            *("# Metrics", "[Monitoring](../deploy/monitoring.md) says how Prometheus reads them."),
            *("## Of runs on Ray", _table(("metric", "tags", "meaning"), runs)),
            *(
                "## Of the service",
                "A counter's samples end in `_total`.",
                _table(("metric", "type", "meaning"), service),
            ),
        ]
    )


def errors_page() -> str:
    """Return the exceptions of the package, and the exit codes."""
    known = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, errors.MclError)]
    rows = [(f"`{one.__name__}`", f"`{one.__base__.__name__}`", _first_line(one)) for one in known if one.__base__]
    codes = "Exit codes: 0 success, 1 a run failed, 2 invalid input, 130 interrupted by Ctrl-C."
    return _page(
        ["# Errors", codes, _table(("error", "is a", "when"), rows), f"```text\n{inspect.getdoc(errors)}\n```"]
    )


PAGES: dict[str, Callable[[], str]] = {
    "fields": fields,
    "names": names,
    "commands": commands,
    "rest": rest,
    "settings": settings,
    "python": python,
    "metrics": metrics,
    "errors": errors_page,
}
"""Name of a page → the function that makes it."""


def _page(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def _default(field: Any) -> str:
    if field.is_required():
        return ""
    value = field.get_default(call_default_factory=True)
    return str(value) if isinstance(value, Path) else yaml12.inline(value)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _codes(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _first_line(value: Any) -> str:
    return (inspect.getdoc(value) or "").partition("\n")[0]
