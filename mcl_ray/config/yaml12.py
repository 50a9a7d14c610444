"""YAML 1.2 booleans and floats on PyYAML, which follows YAML 1.1.

Only true and false are booleans, so that `off` is a string, and 1e-3 is a number. Only plain data can be constructed.
"""

from __future__ import annotations

import re

import yaml


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with YAML 1.2's booleans and floats."""

    yaml_implicit_resolvers = {  # noqa: RUF012 -- as the base class has it
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":bool", ":float"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def inline(value: object) -> str:
    """Return a value as YAML on one line, as a user would write it after `field=`."""
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def load(text: str) -> object:
    """Return the plain data in a YAML text.

    Raises:
        yaml.YAMLError: the text is not YAML, or constructs more than plain data.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except (ValueError, RecursionError) as error:  # an invalid date or number, or nesting that is too deep
        raise yaml.YAMLError(str(error)) from error
    finally:
        loader.dispose()
