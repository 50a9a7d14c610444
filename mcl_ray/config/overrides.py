"""Names and replacement of a spec's fields: `losses.alpha=0.3`, or `alpha=0.3` where the last part is unique.

The command line, search spaces and spec files all use this module, so they accept the same names and raise the same
errors.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from mcl_ray.config import yaml12
from mcl_ray.errors import SpecError, unknown

Spec = TypeVar("Spec", bound=BaseModel)
MAX_SHOWN = 200
"""Maximum number of characters of a value in an error message."""
_A_MAPPING = "must be a mapping of fields, as {{name: value}}"
_RULES = {
    "missing": "must be given",
    "tuple_type": "must be a list, as [1, 2]",
    "dict_type": _A_MAPPING,
    "model_type": _A_MAPPING,
    "model_attributes_type": _A_MAPPING,
    "union_tag_not_found": "must name its {discriminator}",
    "union_tag_invalid": "must have one of {expected_tags} as its {discriminator}",
}
"""Rules in the words of this project, by pydantic's type of error; others keep pydantic's words."""


def field_paths(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, pydantic field) for every leaf field of a model: `losses.alpha`, `losses.beta` and so on."""
    for name, field in model.model_fields.items():
        part = _model_of(field.annotation)
        if part is not None:
            yield from field_paths(part, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def resolve(model: type[BaseModel], name: str) -> str:
    """Return the full path of a field, which `name` may abbreviate to its last parts.

    Raises:
        SpecError: no field has this name (the message names the nearest), or several have (the message names them).
    """
    fields = _fields(model)
    paths = list(fields)
    matches = [path for path in paths if path == name] or [path for path in paths if path.endswith("." + name)]
    if not matches:
        is_part = any(path.startswith(name + ".") for path in paths)
        entries = {name} if is_part else _entries(model, name)
        if len(entries) == 1:
            return entries.pop()
        raise SpecError(unknown("field", name, {path.rpartition(".")[2] for path in paths} | fields.keys()))
    if len(matches) > 1:
        raise SpecError(f"a field's name must be unambiguous, but {name!r} matches {', '.join(matches)}")
    return matches[0]


def parse(model: type[BaseModel], assignments: Iterable[str]) -> dict[str, Any]:
    """Parse `["alpha=0.3", "cohort.size=4"]` into `{"losses.alpha": 0.3, "cohort.size": 4}`; values are YAML.

    Raises:
        SpecError: not of the form field=value, an unknown field, a field given twice, or a value that is not YAML.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name:
            raise SpecError(f"an override must have the form field=value, without spaces, but got {assignment!r}")
        path = resolve(model, name.strip())
        if path in values:
            raise SpecError(f"a field can be given only once, but {path} was given twice")
        try:
            values[path] = yaml12.load(text)
        except yaml.YAMLError as error:
            raise SpecError(f"the value of {path} must be YAML, but got {text!r}") from error
    return values


def replace(spec: Spec, values: Mapping[str, Any]) -> Spec:
    """Return a copy of `spec` with new values for the fields at these full paths, validated as a whole.

    A path may lead into a field that is a mapping (`space.alpha`); the value None removes that entry.

    Raises:
        SpecError: the new values break a rule.
    """
    tree = spec.model_dump()
    for path, value in values.items():
        mapping = next((m for m in _mappings(type(spec)) if path.startswith(m + ".")), None)
        *parents, leaf = (mapping or path).split(".")
        node = tree
        for parent in parents:
            node = node[parent]
        if not isinstance(node, dict):
            raise SpecError(f"{path} cannot be given together with a value for all of {'.'.join(parents)}")
        if mapping is None:
            node[leaf] = value
        else:
            node[leaf] = _with_entry(node.get(leaf, {}), path.removeprefix(mapping + "."), value)
    return validate(type(spec), tree)


def validate(model: type[Spec], tree: object, context: Mapping[str, Any] | None = None) -> Spec:
    """Build a spec from plain data.

    Args:
        model: The spec's class.
        tree: The data.
        context: Facts for its validators, such as that the data was stored by an earlier version.

    Raises:
        SpecError: fields are unknown (the message has the nearest name) or values break a rule; the message has one
            sentence for each error.
    """
    try:
        return model.model_validate(tree, context=context)
    except ValidationError as error:
        raise SpecError(explained(model, error)) from None


def explained(model: type[BaseModel], error: ValidationError) -> str:
    """Return what is wrong with the fields of a model: one sentence for each error, with the rule and the value."""
    return "; ".join(_sentence(model, part) for part in error.errors())


def flat(spec: BaseModel) -> dict[str, Any]:
    """Return the value of every leaf field of a spec, by its full path."""
    tree = spec.model_dump(mode="json")
    leaves: dict[str, Any] = {}
    for path in _fields(type(spec)):
        node, value = tree, spec
        for part in path.split("."):  # a default that was added later is no part of the tree
            value = getattr(value, part)
            node = node.get(part, value)
        leaves[path] = dict(node) if isinstance(node, dict) else node
    return leaves


def _entries(model: type[BaseModel], name: str) -> set[str]:
    """Return the paths of entries of mappings that `name` may stand for: `extra.own` is `losses.extra.own`."""
    parts = name.split(".")
    splits = [(".".join(parts[:count]), ".".join(parts[count:])) for count in range(1, len(parts))]
    return {f"{path}.{key}" for path in _mappings(model) for head, key in splits if f".{path}".endswith(f".{head}")}


def _with_entry(entries: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    key = next((key for key in entries if key == name or key.endswith("." + name)), name)
    rest = {k: v for k, v in entries.items() if k != key}
    return rest if value is None else rest | {key: value}


def _sentence(model: type[BaseModel], part: Any) -> str:
    path = ".".join(str(p) for p in part["loc"])
    if part["type"] == "extra_forbidden":
        name, paths = str(part["loc"][-1]), [found for found, _ in field_paths(model)]
        if places := [found for found in paths if found.endswith(f".{name}")]:  # a short name, of the command line
            return f"{path}: unknown field {name!r}; its place is {' or '.join(places)}"
        leaf_names = {found.rpartition(".")[2] for found in paths} | set(model.model_fields)
        return f"{path}: {unknown('field', name, leaf_names)}"
    if part["type"] == "value_error":
        return f"{path}: {broken_rule(part)}" if path else broken_rule(part)
    return f"{path} {broken_rule(part)}"


def broken_rule(part: Any) -> str:
    """Return the rule that one of pydantic's errors is about, and the value: `must be …, but got …`.

    Of a field that is missing, the names of those that are there take the place of the value.
    """
    message: str = part["msg"].removeprefix("Value error, ")
    if part["type"] == "value_error":
        return message
    known = _RULES.get(part["type"])
    rule = known.format(**part.get("ctx", {})) if known else message[0].lower() + message[1:]
    given = part["input"]
    if part["type"] == "missing" and isinstance(given, dict):
        value = ", ".join(map(str, given)) or "nothing"
    else:
        value = "null" if given is None else repr(given)
    shown = value if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]}…"
    return f"{rule.replace('input should', 'must')}, but got {shown}"


@functools.cache
def _fields(model: type[BaseModel]) -> Mapping[str, Any]:
    return dict(field_paths(model))


@functools.cache
def _mappings(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the full paths of the fields that are mappings."""
    return tuple(path for path, field in _fields(model).items() if get_origin(field.annotation) is dict)


def _model_of(annotation: Any) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None
