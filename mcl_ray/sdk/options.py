"""The keyword arguments of CohortTrainer and CohortTuner: options, and fields of a spec."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.errors import SpecError, UserError
from mcl_ray.object_store import Uri

LOCATIONS = ("results", "data")
"""Options that are a path or a URI."""
NUMBERS_OR_WORDS = ("workers", "pack")
"""Options that are a number, or a word for one."""

Callback = TypeVar("Callback")
Overrides = Mapping[str, Any] | Sequence[str]
"""Fields by their short or full names: a mapping, or `field=value` strings as the commands take them."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of training and searching that do not change what is learned."""

    execution: ExecutionOptions
    """Folders, devices and workers."""
    download: bool = False
    """Download the data set if it is missing."""
    threads: int | None = None
    """CPU threads of one operation, without Ray; None leaves torch's choice."""
    resume: bool = False
    """Resume the newest run of the spec."""


def split_keywords(keywords: Mapping[str, Any]) -> tuple[RunOptions, dict[str, Any]]:
    """Split keyword arguments into options and fields of a spec.

    Raises:
        SpecError: a URI is none of a store.
    """
    names = {field.name for field in fields(ExecutionOptions)}
    execution = {name: value for name, value in keywords.items() if name in names}
    for name in LOCATIONS:
        if name in execution:
            execution[name] = location(execution[name])
    for name in NUMBERS_OR_WORDS:
        if execution.get(name) is not None:
            execution[name] = str(execution[name])
    own = {field.name for field in fields(RunOptions)} - {"execution"}
    others = {name: value for name, value in keywords.items() if name in own}
    spec_fields = {name: value for name, value in keywords.items() if name not in names | own}
    return RunOptions(execution=ExecutionOptions(**execution), **others), spec_fields


def location(value: str | Path) -> Path | Uri:
    """Return a URI if the value has a scheme, else a path."""
    if isinstance(value, Uri | Path):
        return value
    return Uri(value) if "://" in value else Path(value)


def assignments(spec_fields: Mapping[str, Any], overrides: Overrides | None = None) -> tuple[str, ...]:
    """Return fields as the `field=value` strings that the commands take; a JSON value is a YAML value too.

    Raises:
        SpecError: a value has no JSON form, or `overrides` is a single text.
    """
    if isinstance(overrides, str):
        raise SpecError(f"`overrides` must be a mapping or a list of field=value texts, but got the text {overrides!r}")
    if overrides is None:
        given: list[str] = []
    elif isinstance(overrides, Mapping):
        given = [_assignment(name, value) for name, value in overrides.items()]
    else:
        given = list(overrides)
    return (*given, *(_assignment(name, value) for name, value in spec_fields.items()))


def checked(callbacks: Iterable[Any], kind: type[Callback]) -> tuple[Callback, ...]:
    """Return callbacks that all derive from a class.

    Raises:
        UserError: one does not, or they are no list.
    """
    given = tuple(callbacks) if isinstance(callbacks, Iterable) else (callbacks,)
    if not isinstance(callbacks, Iterable) or not all(isinstance(one, kind) for one in given):
        raise UserError(
            f"`callbacks` must be a list of objects that derive from {kind.__name__}, but got {callbacks!r}"
        )
    return given


def _assignment(name: str, value: Any) -> str:
    try:
        return f"{name}={json.dumps(value, default=_plain)}"
    except (TypeError, ValueError) as error:
        raise SpecError(
            f"the value of {name} must be a number, a text, a list or a mapping, but got {value!r}"
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):  # a scalar of numpy
        return value.item()
    raise TypeError(type(value).__name__)
