"""YAML 1.2 on PyYAML, which follows YAML 1.1: the one reader and writer of the project's YAML.

Plain scalars have the types of YAML 1.2's core schema: only true and false are booleans, 010 is ten, 1:30 and 1_0 are
text, 1e-3 is a number. A key that is given twice is an error. Only plain data can be constructed: sets, dates and bytes
of YAML 1.1 are refused, and so is a value that contains itself by an alias, or is larger or deeper than any spec.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, ScalarNode

_MERGE = "tag:yaml.org,2002:merge"
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
MAX_NESTING, MAX_VALUES = 50, 100_000
"""Maximum depth of lists and mappings, and number of values, with those of an alias counted wherever it stands."""
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*|[-+.][0-9][A-Za-z0-9_.+-]*")
"""Pattern of texts that are one plain scalar, so that they need no parser."""
_RESOLVERS = (  # in YAML 1.2's order: 12 is an int, although it also matches the pattern of floats
    ("null", re.compile(r"~|null|Null|NULL|"), ("~", "n", "N", "")),
    ("bool", _BOOL, tuple("tTfF")),
    ("int", _INT, tuple("-+0123456789")),
    ("float", _FLOAT, tuple("-+0123456789.")),
    ("merge", re.compile(r"<<"), ("<",)),  # of YAML 1.1, kept because files use it
)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's core schema, which rejects a key that is given twice."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 -- as the base class has it
    yaml_constructors = {  # noqa: RUF012 -- as the base class has it
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in ("null", "bool", "int", "float", "str", "seq", "map")
    }

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Construct a mapping; an own key replaces a merged one, but no key is given twice."""
        if not isinstance(node, MappingNode):  # by a tag
            raise ConstructorError(None, None, "a mapping is expected", node.start_mark)
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = _MERGE if key_node.tag == _MERGE else self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    raise ConstructorError(None, None, f"the key {key!r} is given twice", key_node.start_mark)
                seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_bool(self, node: ScalarNode) -> bool:
        """Construct a truth value."""
        return _matched(node, _BOOL).lower() == "true"

    def construct_int(self, node: ScalarNode) -> int:
        """Construct an integer."""
        text = _matched(node, _INT)
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)

    def construct_float(self, node: ScalarNode) -> float:
        """Construct a real number."""
        return float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", _matched(node, _FLOAT).lower()))

    def construct_text(self, node: ScalarNode) -> str:
        """Construct text, as of `<<` where it is no key."""
        return str(node.value)


def _matched(node: ScalarNode, pattern: re.Pattern[str]) -> str:
    """Return a scalar's text if it is what its tag claims, by YAML 1.2."""
    if not pattern.fullmatch(str(node.value)):
        raise ConstructorError(None, None, f"{node.value!r} is no {node.tag.rpartition(':')[2]}", node.start_mark)
    return str(node.value)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which quotes text that readers of YAML 1.1 or 1.2 would take for something else."""

    yaml_implicit_resolvers = {  # noqa: RUF012 -- as the base class has it
        first: list(resolvers) for first, resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }


for _kind, _pattern, _first in _RESOLVERS:
    _whole = re.compile(f"^(?:{_pattern.pattern})$")
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _whole, list(_first))
    if _kind in ("int", "float"):
        _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", _whole, list(_first))
_Loader.add_constructor("tag:yaml.org,2002:bool", _Loader.construct_bool)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_float)
_Loader.add_constructor(_MERGE, _Loader.construct_text)


def inline(value: object) -> str:
    """Return a value as YAML on one line, as a user would write it after `field=`."""
    plain = list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value
    return dump(plain, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def dump(value: object, **layout: Any) -> str:
    """Return plain data as YAML that `load` reads back; mappings keep their order.

    Args:
        value: the data.
        layout: further arguments of PyYAML's `dump`.
    """
    options: dict[str, Any] = {"sort_keys": False, "allow_unicode": True} | layout
    return str(yaml.dump(value, None, _Dumper, **options))


def _scalar(loader: _Loader, text: str) -> object:
    """Return the value of a text that is one plain scalar, as most overrides are."""
    tag = loader.resolve(ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    return loader.construct_document(ScalarNode(tag, text))


def _check_size(value: object, above: frozenset[int], sizes: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Return the depth of a value and the number of values in it.

    Args:
        value: the value.
        above: identities of the lists and mappings that it is in.
        sizes: identity → depth and number of the values that have been counted.

    Raises:
        ValueError: it contains itself, or exceeds a limit.
    """
    if not isinstance(value, dict | list):
        return 0, 1
    if id(value) in above:
        raise ValueError("a value must not contain itself")
    if id(value) not in sizes:
        items = value.values() if isinstance(value, dict) else value
        inner = [_check_size(item, above | {id(value)}, sizes) for item in items]
        depth, count = 1 + max((depth for depth, _ in inner), default=0), 1 + sum(count for _, count in inner)
        if depth > MAX_NESTING or count > MAX_VALUES:
            raise ValueError(f"there must be at most {MAX_VALUES:,} values, nested at most {MAX_NESTING} deep")
        sizes[id(value)] = depth, count
    return sizes[id(value)]


def load(text: str) -> object:
    """Return the plain data in a YAML text.

    Raises:
        yaml.YAMLError: the text is not YAML, gives a key twice, constructs more than plain data, or too much of it.
    """
    loader = _Loader(text)
    try:
        if _WORD.fullmatch(text):
            return _scalar(loader, text)
        value = loader.get_single_data()
        _check_size(value, frozenset(), {})
        return value
    except (ValueError, RecursionError) as error:  # an invalid number, or nesting that is too deep
        raise yaml.YAMLError(str(error)) from error
    finally:
        loader.dispose()
