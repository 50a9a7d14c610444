"""A part of each kind for mcl-ray, which imports this module when it meets a name that it does not know.

Importing it loads no torch: a network, a method and a loss term need torch only when they are built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mcl_ray import register
from mcl_ray.config import recipes
from mcl_ray.config.overrides import replace

if TYPE_CHECKING:
    from pathlib import Path

    from optuna.samplers import BaseSampler
    from torch import Tensor

    from mcl_ray.config.spec import RunSpec
    from mcl_ray.data.dataset import Dataset
    from mcl_ray.losses.grid import ContrastGrid
    from mcl_ray.models.network import Network
    from searches.spec.sweep import SweepSpec


@register.network("lab_network")
def lab_network(num_classes: int, in_channels: int) -> Network:
    """Two convolutions, the first of which can be shared."""
    from torch import nn

    from mcl_ray.models.network import GlobalAveragePool, Network

    stem = nn.Sequential(nn.Conv2d(in_channels, 8, 3, padding=1), nn.ReLU())
    branch = nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), GlobalAveragePool())
    return Network(stem, branch, nn.Linear(12, num_classes))


@register.dataset("lab_stripes", reads_files=False)
def lab_stripes(folder: Path, *, download: bool) -> Dataset:
    """Stripes in four directions over noise, 8 × 8 pixels: 200 training and 80 test images."""
    from mcl_ray.data.arrays import dataset_of_arrays

    def split(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count) % 4
        y, x = np.mgrid[:8, :8]
        stripes = np.stack([(y % 2), (x % 2), ((x + y) % 4 < 2), ((x - y) % 4 < 2)])[labels]
        noise = np.random.default_rng(seed).integers(0, 100, (count, 8, 8))
        return (stripes * 120 + noise).astype(np.uint8)[:, np.newaxis], labels

    names = ["across", "along", "rising", "falling"]
    return dataset_of_arrays(train=split(200, 0), test=split(80, 1), class_names=names)


@register.loss_term("lab_agreement")
def lab_agreement(grid: ContrastGrid) -> Tensor:
    """Mean squared difference of each peer's similarities from the mean over the peers."""
    own_BMN = grid.logits.diagonal(dim1=0, dim2=1)
    return (own_BMN - own_BMN.mean(-1, keepdim=True)).square().mean()


register.method("lab_smoothed")("lab_parts.smoothed:Smoothed")


@register.recipe
def lab_recipe() -> RunSpec:
    """Two lab_network on the stripes, two epochs."""
    parts = {"plugins": ["lab_parts"], "data.source": "lab_stripes", "cohort.networks": "lab_network"}
    fields = {"recipe": "lab_recipe", "batch": {"size": 16, "per_class": 4}, "schedule.epochs": 2}
    return replace(recipes.digits(), parts | fields)


@register.search
def lab_search() -> SweepSpec:
    """Search the weight of lab_agreement on the stripes, four trials."""
    from searches.spec import search_registry

    run = replace(lab_recipe(), {"data.validation_fraction": 0.2})
    space = {"losses.extra.lab_agreement": {"kind": "float", "low": 0.0, "high": 1.0}}
    return replace(search_registry.digits(), {"name": "lab_search", "run": run, "space": space, "trials": 4})


@register.sampler("lab_random")
def lab_random(seed: int) -> BaseSampler:
    """Optuna's random sampler."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed=seed)
