"""The class of a method by its name; what is known of methods without torch is in `mcl_ray.config.methods`."""

from __future__ import annotations

from mcl_ray.config.methods import METHODS
from mcl_ray.config.registry import imported
from mcl_ray.errors import SpecError, unknown
from mcl_ray.methods.method import Method


def method_class(name: str) -> type[Method]:
    """Return the class of a method.

    Raises:
        SpecError: there is no method of this name, or a plugin registered something else under it.
    """
    if name not in METHODS:
        raise SpecError(unknown("method", name, METHODS))
    found = imported(METHODS[name].builder)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise SpecError(f"a method must be a subclass of mcl_ray.methods.method.Method, but {name!r} is {found!r}")
    return found
