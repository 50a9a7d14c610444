"""The contracts of parts, passed by what is built in and by the example plugin, and failed by what breaks them."""

import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from torch import nn

from mcl_ray import register
from mcl_ray.config import plugins, recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace
from mcl_ray.config.recipes import RECIPES
from mcl_ray.config.registry import NETWORKS
from mcl_ray.config.spec import LossSpec
from mcl_ray.models.network import Network
from searches.spec import search_registry
from searches.spec.samplers import SAMPLERS
from searches.spec.search_registry import SEARCHES
from tests.contracts import parts
from tests.support.pictures import write_folder

QUICK = ("resnet8", "wrn_16_2", "shufflenetv2_05x")
EXAMPLE = Path(__file__).parents[1] / "example_plugin"
ONE_TERM = {"vcl": "alpha", "icl": "beta", "soft_vcl": "gamma", "soft_icl": "lam"}
NO_WEIGHTS = dict.fromkeys(ONE_TERM.values(), 0.0)


@pytest.fixture
def example(own_registries, monkeypatch):
    """Have the parts of the example plugin registered."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.setattr(plugins, "_imported", {*plugins._imported})
    plugins.import_plugins(["lab_parts"])
    yield
    for module in ("lab_parts", "lab_parts.smoothed"):
        sys.modules.pop(module, None)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
)
def test_networks(name):
    parts.check_network(name, (3, 64, 64) if NETWORKS[name].regime == "imagenet" else (2, 16, 16))


def test_data_sets(tmp_path):
    parts.check_dataset("digits", Environment())
    write_npz(tmp_path / "images.npz")
    parts.check_dataset("npz", Environment(data=tmp_path / "images.npz"))


def write_npz(file):
    generator, labels = np.random.default_rng(0), np.arange(40) % 4
    images = {f"{split}_images": generator.integers(0, 256, (40, 6, 6), np.uint8) for split in ("train", "test")}
    np.savez(file, **images, train_labels=labels, test_labels=labels)


def digits(**fields):
    small = {"cohort.networks": "resnet8", "schedule.epochs": 2, "evaluation.test": "every_epoch"}
    return replace(recipes.digits(), small | fields)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        {"method": "supervised"},
        {"method": "supervised_bank", "bank.negatives": 32},
        {"method": "linear", "linear.backbone": "random"} | {f"losses.{name}": 0.0 for name in NO_WEIGHTS},
    ],
    ids=lambda fields: fields["method"],
)
def test_methods_with_labels(fields, tmp_path):
    parts.check_method(digits(**fields), tmp_path, tmp_path / "results")


@pytest.mark.slow
def test_methods_without_labels(tmp_path):
    small = {"image_size": 16, "source": "folder"}
    fields = {f"data.{name}": value for name, value in small.items()} | {
        "cohort.networks": "resnet8",
        "batch.size": 6,
        "queue.keys": 12,
        "evaluation.neighbours": 3,
        "schedule": {"epochs": 2},
    }
    parts.check_method(replace(recipes.moco(), fields), write_folder(tmp_path / "images"), tmp_path / "results")


@pytest.mark.parametrize("name", ONE_TERM)
def test_loss_terms(name):
    parts.check_loss_term(name, LossSpec(**NO_WEIGHTS | {ONE_TERM[name]: 1.0}))


@pytest.mark.parametrize("name", RECIPES)
def test_recipes(name):
    parts.check_recipe(name)


@pytest.mark.parametrize("name", SEARCHES)
def test_searches(name):
    parts.check_search(name)


@pytest.mark.parametrize("kind", [kind for kind in SAMPLERS if kind != "grid"])
def test_samplers(kind):
    space = "space={losses.tau: {kind: float, low: 0.1, high: 1.0}}"
    parts.check_sampler(kind, search_registry.digits().with_overrides([space]))


def test_the_example_plugin(example, tmp_path):
    parts.check_network("lab_network")
    parts.check_dataset("lab_stripes", Environment())
    parts.check_loss_term("lab_agreement", LossSpec(**NO_WEIGHTS, extra={"lab_agreement": 1.0}))
    parts.check_recipe("lab_recipe")
    parts.check_search("lab_search")
    parts.check_sampler("lab_random", SEARCHES["lab_search"]())
    spec = replace(RECIPES["lab_recipe"](), {"method": "lab_smoothed"} | {f"losses.{one}": 0.0 for one in NO_WEIGHTS})
    parts.check_method(spec, tmp_path, tmp_path / "results")


class InPlace(nn.Module):
    def forward(self, maps):
        return maps.add_(1).mean((2, 3))


def test_a_network_whose_branch_changes_the_stem_s_output_fails(own_registries):
    register.network("in_place")(
        lambda num_classes, in_channels: Network(nn.Conv2d(in_channels, 3, 1), InPlace(), nn.Linear(3, num_classes))
    )
    with pytest.raises(AssertionError, match="no branch may change it"):
        parts.check_network("in_place")


def test_a_network_with_fixed_weights_fails(own_registries):
    @register.network("fixed")
    def build(num_classes, in_channels):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            branch = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
            return Network(nn.Conv2d(in_channels, 3, 1), branch, nn.Linear(3, num_classes))

    with pytest.raises(AssertionError, match="weights come from torch's seed"):
        parts.check_network("fixed")


def test_a_loss_term_that_draws_numbers_fails(own_registries):
    register.loss_term("noisy")(lambda grid: (grid.logits * torch.rand_like(grid.logits)).sum())
    with pytest.raises(AssertionError, match="it draws no numbers"):
        parts.check_loss_term("noisy", LossSpec(**NO_WEIGHTS, extra={"noisy": 1.0}))


def test_a_sampler_that_forgets_its_seed_fails(own_registries):
    register.sampler("fixed")(lambda seed: optuna.samplers.RandomSampler(seed=0))
    with pytest.raises(AssertionError):
        parts.check_sampler("fixed", search_registry.digits())
