"""Searches known by name."""

from __future__ import annotations

from collections.abc import Callable

from mcl_ray.config import recipes
from mcl_ray.config.overrides import replace, validate
from mcl_ray.config.registry import Registry, published_networks
from searches.spec.sweep import SWEEP_VERSION, SweepSpec

WEIGHTS_AND_SIZE = {
    "losses.alpha": {"kind": "float", "low": 0.0, "high": 1.0},
    "losses.beta": {"kind": "float", "low": 0.0, "high": 1.0},
    "losses.gamma": {"kind": "float", "low": 0.0, "high": 2.0},
    "losses.lam": {"kind": "float", "low": 0.0, "high": 2.0},
}


def cifar() -> SweepSpec:
    """Search the four weights and cohort size (2 to 4) for resnet32 on CIFAR-100, 90 trials of up to 300 epochs."""
    run = replace(recipes.cifar(), {"data.validation_fraction": 0.1})
    return validate(
        SweepSpec,
        {
            "name": "cifar",
            "run": run,
            "space": WEIGHTS_AND_SIZE | {"cohort.size": {"kind": "choice", "values": [2, 3, 4]}},
            "trials": 90,
            "scheduler": {"grace_epochs": 20},
        },
    )


def imagenet() -> SweepSpec:
    """Search the four weights and cohort size (2 to 4) for resnet18 with memory banks, 14 trials of up to 90 epochs."""
    run = replace(recipes.imagenet(), {"data.validation_fraction": 0.04})
    return validate(
        SweepSpec,
        {
            "name": "imagenet",
            "run": run,
            "space": WEIGHTS_AND_SIZE | {"cohort.size": {"kind": "choice", "values": [2, 3, 4]}},
            "trials": 14,
            "scheduler": {"grace_epochs": 10},
        },
    )


def moco() -> SweepSpec:
    """Search the four weights and cohort size (2 to 4) for resnet18 without labels, scored by nearest neighbours."""
    run = replace(recipes.moco(), {"data.validation_fraction": 0.04})
    weights = {path: {"kind": "float", "low": 0.0, "high": 2.0} for path in WEIGHTS_AND_SIZE}
    return validate(
        SweepSpec,
        {
            "name": "moco",
            "run": run,
            "space": weights | {"cohort.size": {"kind": "choice", "values": [2, 3, 4]}},
            "objective": "validation/knn_top1/mean",
            "trials": 14,
            "scheduler": {"grace_epochs": 20},
        },
    )


def digits() -> SweepSpec:
    """Search the four weights and cohort size (2 to 4) on scikit-learn's digits: minutes on two CPU cores."""
    run = replace(recipes.digits(), {"data.validation_fraction": 0.2})
    return validate(
        SweepSpec,
        {
            "name": "digits",
            "run": run,
            "space": WEIGHTS_AND_SIZE | {"cohort.size": {"kind": "int", "low": 2, "high": 4}},
            "baseline": {"cohort.size": 1, "losses.alpha": 0.0},
            "trials": 12,
            "scheduler": {"grace_epochs": 9},
        },
    )


Search = Callable[[], SweepSpec]


HELD_OUT = 0.1
"""Fraction of the training images on which a search file's trials are scored if its run names a recipe, and none."""


def _cifar_with(network: str) -> Search:
    def search() -> SweepSpec:
        return replace(cifar(), {"name": f"cifar_{network}", "run.cohort.networks": network})

    search.__name__, search.__doc__ = f"cifar_{network}", f"Search as `cifar` does, for {network}."
    return search


PUBLISHED = [_cifar_with(name) for name in published_networks("cifar")]
"""One search for each network that was published on CIFAR-100."""
SEARCHES: Registry[Search] = Registry(
    "search", {search.__name__: search for search in (cifar, imagenet, moco, digits, *PUBLISHED)}
)


def load(name_or_file: str) -> SweepSpec:
    """Return the search of this name, or the search file at this path.

    Raises:
        SpecError: neither exists, or the file breaks a rule.
    """
    return recipes.load_named("search", SEARCHES, SweepSpec, SWEEP_VERSION, name_or_file, HELD_OUT)
