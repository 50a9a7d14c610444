"""Import of the modules with parts of one's own: those that a spec names, and those that are installed.

Reading a spec imports nothing: results can be read where a plugin is missing, and a service need not trust what its
users name. What trains, or is about to, calls `import_plugins`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from mcl_ray.errors import SpecError

GROUP = "mcl_ray.plugins"
"""Group of the entry points by which an installed distribution names its modules with parts."""
MODULE = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
"""Pattern of the name of a module."""
MAIN = "__main__"
"""Module of parts that a script or a notebook registers, which no other process can import."""

_imported = {MAIN}


@dataclass(frozen=True, kw_only=True)
class PluginRecord:
    """Record of a plugin that was imported."""

    module: str
    distribution: str | None
    """Name of the installed distribution that has the module; None for a module that lies in a folder."""
    version: str | None
    """Version of the distribution."""
    sha256: str | None
    """Checksum of the module's file; None if it has none."""


def import_plugins(modules: Iterable[str]) -> None:
    """Import modules, which register their parts.

    Raises:
        SpecError: one of them cannot be imported, or raises an error when it is.
    """
    for module in modules:
        if module in _imported:
            continue
        try:
            import_module(module)
        except SpecError:
            raise
        except Exception as error:
            raise SpecError(
                f"a plugin must be a module that Python can import, but {module} raises {type(error).__name__}: {error}"
            ) from error
        _imported.add(module)


def are_imported(modules: Iterable[str]) -> bool:
    """Return whether `import_plugins` has imported all of these modules in this process."""
    return _imported.issuperset(modules)


@functools.cache
def installed_plugins() -> tuple[str, ...]:
    """Return the modules that installed distributions name by entry points; none is imported."""
    return tuple(sorted({entry.module for entry in importlib.metadata.entry_points(group=GROUP)}))


def import_installed() -> None:
    """Import every module that an installed distribution names by an entry point.

    Raises:
        SpecError: one of them cannot be imported.
    """
    import_plugins(installed_plugins())


def plugin_records(modules: Iterable[str]) -> list[PluginRecord]:
    """Return what is recorded of modules that this process has imported; it imports none."""
    return [_record(module) for module in modules if module in sys.modules]


def _record(module: str) -> PluginRecord:
    file = getattr(sys.modules[module], "__file__", None)
    sha256 = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file and Path(file).is_file() else None
    distribution = _distribution_of(module)
    version = importlib.metadata.version(distribution) if distribution else None
    return PluginRecord(module=module, distribution=distribution, version=version, sha256=sha256)


def _distribution_of(module: str) -> str | None:
    for entry in importlib.metadata.entry_points(group=GROUP):  # an editable installation has no list of its files
        if entry.dist is not None and is_covered(module, [entry.module]):
            return entry.dist.name
    names = importlib.metadata.packages_distributions().get(module.partition(".")[0])
    return names[0] if names else None


def is_covered(module: str, plugins: Iterable[str]) -> bool:
    """Return whether a module is one of these plugins, or below one of them."""
    return any(module == plugin or module.startswith(f"{plugin}.") for plugin in plugins)
