"""What every part must do, built in or of a plugin: one check for each kind, to be called with the part's name.

A plugin's own tests can call them after `import_plugins(["my_module"])`.

N peers, B images, C classes, F features.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace as with_fields
from pathlib import Path

import numpy as np
import optuna
import torch

from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace, validate
from mcl_ray.config.recipes import RECIPES, to_yaml
from mcl_ray.config.spec import DataSpec, LossSpec, RunSpec
from mcl_ray.config.yaml12 import load as load_yaml
from mcl_ray.contrast.in_batch import in_batch_grid
from mcl_ray.data.source import load_dataset
from mcl_ray.losses.grid import ContrastGrid
from mcl_ray.losses.terms import contrastive_terms
from mcl_ray.models.cost import shapes_alone
from mcl_ray.models.registry import build_network
from searches.spec.search_registry import SEARCHES
from searches.spec.space import contains
from searches.spec.sweep import SweepSpec
from searches.tune import converters
from searches.tune.converters import suggest, to_sampler
from tests.support.comparison import figures
from tests.support.small_runs import Parts, train

NUM_CLASSES, NUM_IMAGES = 7, 4


def seeded(name: str, in_channels: int, seed: int = 0) -> torch.nn.Module:
    """Build a network with the weights of a seed."""
    torch.manual_seed(seed)
    return build_network(name, NUM_CLASSES, in_channels)


def check_network(name: str, image_shape: tuple[int, int, int] = (2, 16, 16)) -> None:
    """Check a network's shapes, seeds, stem, gradients, its form on `meta`, and that `torch.export` takes it."""
    network, images = seeded(name, image_shape[0]), torch.randn(NUM_IMAGES, *image_shape)
    logits_BC, features_BF = network(images)
    assert logits_BC.shape == (NUM_IMAGES, NUM_CLASSES)
    assert features_BF.shape == (NUM_IMAGES, network.feature_dim)
    torch.testing.assert_close(network.classifier(features_BF), logits_BC)

    same, other = seeded(name, image_shape[0]).state_dict(), seeded(name, image_shape[0], seed=1).state_dict()
    assert all(torch.equal(same[key], tensor) for key, tensor in seeded(name, image_shape[0]).state_dict().items())
    assert not all(torch.equal(other[key], tensor) for key, tensor in same.items()), "weights come from torch's seed"

    maps = network.stem(images).detach()
    before = maps.clone()
    network.branch(maps)
    assert torch.equal(maps, before), "peers share the stem's output, so that no branch may change it"

    logits_BC.logsumexp(1).sum().backward()
    assert not [key for key, parameter in network.named_parameters() if parameter.grad is None]

    with shapes_alone():
        empty = build_network(name, NUM_CLASSES, image_shape[0]).state_dict()
    assert {key: tensor.shape for key, tensor in empty.items()} == {
        key: tensor.shape for key, tensor in same.items()
    }, "a dry run builds it without numbers"

    network.eval()
    with torch.no_grad():
        alone, together = network(images[:1])[0], network(images)[0][:1]
        torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)
    batch = {"images": {0: torch.export.Dim("batch")}}
    torch.export.save(torch.export.export(network, (images[:2],), dynamic_shapes=batch), io.BytesIO())


def check_dataset(name: str, environment: Environment) -> None:
    """Check that a data set in memory is the same at each load, and that its statistics are those of its images."""
    first, again = (load_dataset(DataSpec(source=name), environment) for _ in range(2))
    assert first.name == name
    for split, images in first.splits.items():
        np.testing.assert_array_equal(images.images, again.splits[split].images, err_msg=split)
        np.testing.assert_array_equal(images.labels, again.splits[split].labels, err_msg=split)
        assert images.images.dtype == np.uint8
        assert images.image_shape == first.image_shape
        assert 0 <= images.labels.min() <= images.labels.max() < first.num_classes
    assert set(first.train.labels) == set(range(first.num_classes)), "every class has a training image"
    channels = first.train.images.transpose(1, 0, 2, 3).reshape(first.image_shape[0], -1) / 255
    np.testing.assert_allclose(first.mean, channels.mean(1), atol=1e-9)
    np.testing.assert_allclose(first.std, channels.std(1), atol=1e-9)
    held_out = load_dataset(DataSpec(source=name, validation_fraction=0.2), environment)
    assert held_out.validation is not None
    assert len(held_out.train) + len(held_out.validation) >= len(first.train)


def check_method(spec: RunSpec, folder: Path, results: Path) -> None:
    """Check a method in a run of two epochs: its gradients, and that resuming changes no figure."""
    parts = Parts(replace(spec, {"schedule.epochs": 1}), folder)
    (batch,) = parts.batches(1)
    losses = parts.method.losses(batch)
    assert losses.total.ndim == 0
    assert all(term.ndim == 0 and term.isfinite() for term in losses.terms.values())
    losses.total.backward()
    assert [key for key, parameter in parts.cohort.named_parameters() if parameter.grad is not None]
    idle = [key for key, one in parts.cohort.named_parameters() if one.requires_grad and one.grad is None]
    assert not idle, "workers would wait for the gradients of these"

    assert spec.schedule.epochs == 2
    train(spec, folder, results / "whole")
    train(spec, folder, results / "resumed", epochs=1)
    train(spec, folder, results / "resumed")
    assert figures(results / "whole") == figures(results / "resumed")


def grid_of(num_peers: int, dtype: torch.dtype) -> ContrastGrid:
    """Return the grid of a batch of six images of three classes."""
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.nn.functional.normalize(torch.randn(num_peers, 6, 5, generator=generator, dtype=dtype), dim=-1)
    return in_batch_grid(embeddings.requires_grad_(), torch.tensor([0, 0, 1, 1, 2, 2]), torch.arange(6), 0.5)


def check_loss_term(name: str, weights: LossSpec) -> None:
    """Check that a term, which these weights select, is a finite scalar of the logits that can be differentiated."""
    for dtype, num_peers in ((torch.float32, 2), (torch.float64, 3)):
        grid = grid_of(num_peers, dtype)
        logits = grid.logits.detach().requires_grad_()
        term = contrastive_terms(with_fields(grid, logits=logits), weights)[name]
        assert term.ndim == 0
        assert term.dtype == dtype
        assert term.isfinite()
        (gradient,) = torch.autograd.grad(term, logits)
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0
        again = contrastive_terms(with_fields(grid, logits=logits), weights)[name]
        assert torch.equal(term, again), "it draws no numbers"


def check_recipe(name: str) -> None:
    """Check that a recipe returns the same spec each time, which survives its file, and says what it is."""
    recipe: Callable[[], RunSpec] = RECIPES[name]
    assert recipe.__doc__
    spec = recipe()
    assert spec == recipe()
    assert spec.recipe == name
    assert validate(RunSpec, load_yaml(to_yaml(spec))) == spec


def check_search(name: str) -> None:
    """Check that a search returns the same spec each time, which survives its record, and has points to try."""
    search: Callable[[], SweepSpec] = SEARCHES[name]
    assert search.__doc__
    spec = search()
    assert spec == search()
    assert validate(SweepSpec, spec.model_dump(mode="json")) == spec
    for point in spec.first_points:
        assert contains(spec.space, point)
        assert spec.trial_run(point).schedule.epochs == spec.run.schedule.epochs


def check_sampler(kind: str, search: SweepSpec) -> None:
    """Check that a sampler proposes points of a search's space, and others with another seed and after a resumption."""
    spec = replace(search, {"sampler.kind": kind})
    converters.check_sampler(spec)
    first = proposals(spec)
    assert all(contains(spec.space, point) for point in first)
    assert first == proposals(spec)
    assert first != proposals(replace(spec, {"sampler.seed": 1}))
    assert first != proposals(spec, proposed=3)


def proposals(spec: SweepSpec, proposed: int = 0) -> list[dict[str, object]]:
    """Return the first points that a sampler proposes."""
    study = optuna.create_study(direction="maximize", sampler=to_sampler(spec, proposed))
    points = []
    for number in range(3):
        trial = study.ask()
        points.append(suggest(spec.space, trial))
        study.tell(trial, float(number))
    return points
