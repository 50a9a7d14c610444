"""Decorators with which a module registers parts of its own, by the names that specs then have.

    from mcl_ray import register

    @register.network("my_network")
    def my_network(num_classes, in_channels): ...

A spec names the module among its `plugins`, so that workers on Ray import it too; docs/plugins.md has an example of
each kind. Importing this loads neither torch nor ray.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from mcl_ray.config.loss_terms import LOSS_TERMS, LossTermEntry
from mcl_ray.config.methods import FORWARD_AND_BACKWARD, METHODS, MethodEntry
from mcl_ray.config.recipes import RECIPES
from mcl_ray.config.registry import DATASETS, NETWORKS, DatasetEntry, DatasetSize, NetworkEntry, Regime

Part = TypeVar("Part", bound=Callable[..., Any] | str)
"""A part, or its `module:name`, which is imported only when the part is used."""
Function = TypeVar("Function", bound=Callable[..., Any])


def network(name: str, *, regime: Regime = "cifar") -> Callable[[Part], Part]:
    """Register a function that builds a network.

    The function takes (num_classes, in_channels) and returns a `mcl_ray.models.network.Network` with random weights
    from torch's global generator, on whatever device is torch's default.

    Args:
        name: its name in `cohort.networks`.
        regime: image size that it is designed for: about 32 × 32 pixels (`cifar`) or about 224 × 224 (`imagenet`).

    Raises:
        SpecError: the name is taken, or has other characters than letters, digits and underscores.
    """
    module = _caller()

    def add(builder: Part) -> Part:
        NETWORKS.add(name, NetworkEntry(builder=builder, regime=regime), module)
        return builder

    return add


def dataset(name: str, *, size: DatasetSize | None = None, reads_files: bool = True) -> Callable[[Function], Function]:
    """Register a function that loads a data set whose images fit into memory.

    The function takes (folder, download): the folder that `--data` names, and, as a keyword, whether to download what
    is missing. It returns a `mcl_ray.data.dataset.Dataset`; `mcl_ray.data.arrays` makes one of arrays. Every process
    that trains calls it, so that it must return the same images each time.

    Args:
        name: its name in `data.source`.
        size: its size, for estimates where the images are missing.
        reads_files: whether it reads the folder; otherwise the images are part of an installed package.

    Raises:
        SpecError: the name is taken, or has other characters than letters, digits and underscores.
    """
    module = _caller()

    def add(loader: Function) -> Function:
        DATASETS.add(name, DatasetEntry(size=size, loader=loader, reads_files=reads_files), module)
        return loader

    return add


def method(
    name: str,
    *,
    is_supervised: bool = True,
    num_views: int = 1,
    needs_contrast: bool = False,
    has_grid: bool = False,
    splits_peers: bool = False,
    own_fields: tuple[str, ...] = (),
    passes: int = FORWARD_AND_BACKWARD,
) -> Callable[[Part], Part]:
    """Register a subclass of `mcl_ray.methods.method.Method`, a training method.

    Args:
        name: its name in `method`.
        is_supervised: whether the peers have classifiers that learn from labels; otherwise they are scored by nearest
            neighbours.
        num_views: number of views of each training image in a batch; more than one requires images that are decoded
            on demand.
        needs_contrast: whether nothing but the contrastive terms trains the peers.
        has_grid: whether it computes `contrastive_terms` of a grid, and with them those of `losses.extra`.
        splits_peers: whether the peers may be on different workers: it computes its losses and its state from the
            outputs of all peers, and stores copies of the cohort by `Cohort.state_of_all_peers`.
        own_fields: fields of other methods that it uses, such as `bank.`, which stands for all fields below it.
        passes: duration of a step in forward passes of all peers, for estimates.

    Raises:
        SpecError: the name is taken, or has other characters than letters, digits and underscores.
    """
    module = _caller()

    def add(builder: Part) -> Part:
        entry = MethodEntry(
            builder=builder,
            is_supervised=is_supervised,
            num_views=num_views,
            needs_contrast=needs_contrast,
            has_grid=has_grid,
            splits_peers=splits_peers,
            own_fields=own_fields,
            passes=passes,
        )
        METHODS.add(name, entry, module)
        return builder

    return add


def loss_term(name: str) -> Callable[[Function], Function]:
    """Register a function that computes a term of the loss from the contrast grid.

    The function takes a `mcl_ray.losses.grid.ContrastGrid`, which has logits [N, N, B, M] of N peers, B anchors and M
    entries, and returns a scalar. It is computed if its weight in `losses.extra` is not zero.

    Args:
        name: its name in `losses.extra`, and in the records of the figures.

    Raises:
        SpecError: the name is taken, or has other characters than letters, digits and underscores.
    """
    module = _caller()

    def add(function: Function) -> Function:
        LOSS_TERMS.add(name, LossTermEntry(function=function), module)
        return function

    return add


def recipe(function: Function) -> Function:
    """Register a function that returns a `RunSpec`, under its own name; its docstring is shown by `mcl recipes`.

    Raises:
        SpecError: the name is taken.
    """
    RECIPES.add(function.__name__, function, _caller())
    return function


def search(function: Function) -> Function:
    """Register a function that returns a `searches.spec.sweep.SweepSpec`, under its own name.

    Raises:
        SpecError: the name is taken.
    """
    from searches.spec.search_registry import SEARCHES  # a plugin of networks does not need it

    SEARCHES.add(function.__name__, function, _caller())
    return function


def sampler(name: str, *, learns_from_others: bool = False) -> Callable[[Function], Function]:
    """Register a function that takes a seed and returns a sampler of Optuna, as those of OptunaHub.

    A sweep that is resumed calls it again, with another seed, and adds the trials before to its study.

    Args:
        name: its name in `sampler.kind`.
        learns_from_others: whether it learns from trials that it did not propose, so that `warm_start` has an effect.

    Raises:
        SpecError: the name is taken, or has other characters than letters, digits and underscores.
    """
    from searches.spec.samplers import SAMPLERS, SamplerEntry

    module = _caller()

    def add(builder: Function) -> Function:
        SAMPLERS.add(name, SamplerEntry(builder=builder, learns_from_others=learns_from_others), module)
        return builder

    return add


def _caller() -> str:
    """Return the name of the module that called the function of this module."""
    return str(sys._getframe(2).f_globals["__name__"])
