"""The modules that registered the parts which a spec names, so that it names these modules, too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mcl_ray.config.loss_terms import LOSS_TERMS
from mcl_ray.config.methods import METHODS
from mcl_ray.config.overrides import replace
from mcl_ray.config.plugins import is_covered
from mcl_ray.config.registry import DATASETS, NETWORKS, Registry
from mcl_ray.config.spec import RunSpec

REGISTRIES: tuple[Registry[Any], ...] = (NETWORKS, DATASETS, METHODS, LOSS_TERMS)


def with_plugins(run: RunSpec, tree: object, others: Sequence[Registry[Any]] = ()) -> RunSpec:
    """Return a run whose `plugins` cover every part of a plugin that is named.

    Args:
        run: the run.
        tree: plain data in which the names are: the run itself, or the search that it is part of.
        others: registries of parts that a search may name, beside those of a run.
    """
    registries = [registry for registry in (*REGISTRIES, *others) if registry.added]
    if not registries:
        return run
    texts = set(_texts(tree))
    found = {registry.module_of(name) for registry in registries for name in registry.added & texts}
    missing = sorted(module for module in found if module is not None and not is_covered(module, run.plugins))
    return replace(run, {"plugins": (*run.plugins, *missing)}) if missing else run


def _texts(tree: object) -> Iterator[str]:
    """Yield every text in plain data, the keys of mappings among them; of `losses.extra.NAME`, the name."""
    if isinstance(tree, str):
        yield tree.removeprefix("losses.extra.")
    elif isinstance(tree, dict):
        yield from _texts([*tree, *tree.values()])
    elif isinstance(tree, list | tuple):
        for item in tree:
            yield from _texts(item)
