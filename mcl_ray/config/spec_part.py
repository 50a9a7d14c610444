"""Base of the parts of a spec, and its rules for numbers: text and truth values are none, and −0.0 is 0.0."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel, ConfigDict, model_validator


class _Kinds(NamedTuple):
    """The types and literals of which a field's type is made."""

    leaves: frozenset[Any]
    is_mapping: bool


@functools.cache
def _numeric_fields(model: type[BaseModel]) -> dict[str, _Kinds]:
    """Return the kinds of each field that takes numbers."""
    kinds = {
        name: _Kinds(frozenset(_leaves(field.annotation)), get_origin(field.annotation) is dict)
        for name, field in model.model_fields.items()
    }
    return {name: found for name, found in kinds.items() if found.leaves & {int, float}}


@functools.cache
def _parts(model: type[BaseModel]) -> frozenset[str]:
    """Return the names of the fields that are parts of a spec, and nothing else."""
    return frozenset(
        name
        for name, field in model.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Part)
    )


def _is_other_than_its_number(kinds: _Kinds, value: object) -> bool:
    """Return whether a value is a truth value or text where a field's type has only numbers, at any depth."""
    if isinstance(value, list | tuple):
        return any(_is_other_than_its_number(kinds, item) for item in value)
    if isinstance(value, dict) and kinds.is_mapping:
        return any(isinstance(item, bool) for item in value.values())
    return isinstance(value, bool | str) and type(value) not in kinds.leaves and value not in kinds.leaves


def _leaves(annotation: Any) -> Iterator[Any]:
    """Yield the types and literals of which a type is made."""
    if get_origin(annotation) is Annotated:
        yield from _leaves(get_args(annotation)[0])
    elif arguments := get_args(annotation):
        for argument in arguments:
            yield from _leaves(argument)
    else:
        yield annotation


def _without_minus_zero(value: Any) -> Any:
    """Return plain data in which 0.0 replaces −0.0, so that equal values are written alike."""
    if isinstance(value, dict):
        return {key: _without_minus_zero(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without_minus_zero(item) for item in value)
    return 0.0 if isinstance(value, float) and value == 0 else value


class Part(BaseModel):
    """Base of every part of a spec: frozen, no unknown fields, validated at construction."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _numbers_are_numbers(cls, values: Any) -> Any:
        """Reject `alpha=true` and `lr=1_0`, which would be taken as 1 and 10, and replace −0.0 by the equal 0.0."""
        if not isinstance(values, dict):
            return values
        for name, kinds in _numeric_fields(cls).items():
            if name in values and _is_other_than_its_number(kinds, values[name]):
                raise ValueError(f"{name} must be a number, but got {json.dumps(values[name])}")
        parts = _parts(cls)  # whose own validators do this
        return {name: value if name in parts else _without_minus_zero(value) for name, value in values.items()}
