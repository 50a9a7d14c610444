"""Self-supervised runs: views, keys, queues, and what several workers make of them."""

import copy
import math

import pytest
import torch

from mcl_ray.config import recipes
from mcl_ray.config.overrides import parse, replace
from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import SpecError
from tests.support.comparison import figures
from tests.support.pictures import write_folder
from tests.support.small_runs import Parts, newest, replace_newest, train
from tests.support.workers import some_workers

SMALL = ("networks=resnet8", "image_size=16", "batch.size=6", "lr=0.02", "neighbours=5")


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "pictures")


def spec_of(*overrides, epochs=4, recipe=recipes.moco):
    schedule = (f"epochs={epochs}", "schedule.kind=cosine", "milestones=[]")
    queue = () if any("queue.keys" in override for override in overrides) else ("queue.keys=20",)
    return replace(recipe(), parse(RunSpec, [*SMALL, *schedule, *queue, *overrides]))


@pytest.mark.parametrize("recipe", [recipes.moco, recipes.moco_v2])
def test_a_batch_has_two_views_of_each_image(folder, recipe):
    parts = Parts(spec_of(recipe=recipe), folder)
    (batch,) = parts.batches(1)
    assert batch.images.shape == (12, 3, 16, 16)
    first, second = batch.images.chunk(2)
    assert not any(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_both_views_are_of_one_image(folder):
    """Without jitter, images of another class have another colour."""
    (batch,) = Parts(spec_of("views=crop"), folder).batches(1)
    first, second = batch.images.mean((2, 3)).chunk(2)
    apart = torch.cdist(first, second)
    others = batch.labels[:, None] != batch.labels
    assert bool((apart.diagonal() < apart.where(others, torch.inf).amin(1)).all())


def test_keys_follow_before_they_are_made_and_enter_after_the_step(folder):
    """The first step, spelled out peer by peer, pair by pair."""
    spec = spec_of("key_momentum=0.7")
    parts = Parts(spec, folder)
    encoders, queue = copy.deepcopy(parts.cohort), parts.method.queue.keys.clone()
    for parameter in parts.cohort.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    for lagging, leading in zip(encoders.parameters(), parts.cohort.parameters(), strict=True):
        lagging.data = 0.7 * lagging.data + 0.3 * leading.data
    (batch,) = parts.batches(1)
    query_images, key_images = batch.images[:6], batch.images[6:]
    with torch.no_grad():
        keys, queries = encoders(key_images).embeddings, copy.deepcopy(parts.cohort)(query_images).embeddings
    vcl = icl = 0.0
    for i in range(2):
        for j in range(2):
            for a in range(6):
                logits = [float(queries[i, a] @ key) / spec.losses.tau for key in [keys[j, a], *queue[j]]]
                loss = math.log(sum(math.exp(value) for value in logits)) - logits[0]
                vcl, icl = (vcl + loss / 6, icl) if i == j else (vcl, icl + loss / 6)
    losses = parts.step(batch)
    assert float(losses["vcl"]) == pytest.approx(vcl, rel=1e-5)
    assert float(losses["icl"]) == pytest.approx(icl, rel=1e-5)
    torch.testing.assert_close(parts.method.queue.keys[:, :6], keys)
    assert torch.equal(parts.method.queue.keys[:, 6:], queue[:, 6:])
    assert parts.method.queue.pointer == 6


def test_no_gradient_reaches_the_key_encoders(folder):
    parts = Parts(spec_of(), folder)
    (batch,) = parts.batches(1)
    parts.step(batch)
    assert all(parameter.grad is None for parameter in parts.method.keys.parameters())
    assert all(parameter.grad is not None for parameter in parts.cohort.parameters())


@pytest.mark.parametrize("what", ["keys", "encoders"])
def test_queues_and_key_encoders_are_part_of_what_is_learned(folder, tmp_path, what):
    train(spec_of(), folder, tmp_path / "whole")
    writer = train(spec_of(), folder, tmp_path / "parts", epochs=2)
    checkpoint = newest(writer)
    tensor = checkpoint.method[what]
    (tensor if what == "keys" else tensor["stems.0.conv.weight"]).normal_()
    replace_newest(writer, checkpoint)
    train(spec_of(), folder, tmp_path / "parts")
    assert figures(tmp_path / "parts") != figures(tmp_path / "whole")


def test_it_is_scored_by_nearest_neighbours_and_has_no_classifiers(folder, tmp_path):
    writer = train(spec_of(epochs=2), folder, tmp_path / "one")
    values = figures(tmp_path / "one")
    assert values[2, "test", "knn_top1", "mean"] > 60, "colours are seen by any network"
    assert (2, "test", "top1", "mean") not in values
    assert {"vcl", "icl", "soft_vcl", "soft_icl"} <= {metric for _, _, metric, _ in values}
    assert "cross_entropy" not in {metric for _, _, metric, _ in values}
    assert not [name for name in newest(writer).cohort if name.startswith("classifiers")]


def test_the_published_baseline_has_only_the_contrast_within_each_peer(folder):
    parts = Parts(spec_of(recipe=recipes.moco_baseline), folder)
    (batch,) = parts.batches(1)
    assert set(parts.step(batch)) == {"vcl"}


@pytest.mark.parametrize(
    ("overrides", "rule"),
    [
        (["data.source=cifar", "augmentation.views=crop"], "method=moco requires data.source=folder or parquet"),
        (["alpha=0", "beta=0", "gamma=0", "lam=0"], "a contrastive weight > 0"),
        (["alpha=0", "cohort.size=1"], "a contrastive weight > 0"),
        (["logit_distillation=all"], "method=moco requires losses.logit_distillation=off"),
        (["contrast=local"], "losses.contrast=local requires method=supervised"),
        (["queue.keys=0"], "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_learned_without_labels(overrides, rule):
    with pytest.raises(SpecError, match=rule):
        spec_of(*overrides)


def learned(spec, folder):
    """The queue, the key encoders and the last losses after three steps."""
    parts = Parts(spec, folder)
    losses = [parts.step(batch) for batch in parts.batches(3)]
    state = parts.method.state_dict()
    return state["keys"], state["pointer"], {n: t for n, t in state["encoders"].items() if "running" not in n}, losses


def unshuffled(spec, folder):
    """Keys of one batch with and without images that change workers, where batches have no part in them."""
    parts = Parts(spec, folder)
    parts.method.keys.eval()
    (batch,) = parts.batches(1)
    images = batch.images.chunk(2)[1]
    keys = [parts.method._keys_of(images, batch.shares)]
    parts.method._shuffles = False
    return [*keys, parts.method._keys_of(images, batch.shares)]


@pytest.mark.slow
def test_workers_have_one_queue_and_together_learn_as_one(folder, tmp_path):
    """Six images of each batch, 2, 2, 1 and 1 to each."""
    spec = spec_of("batch_statistics=synchronised", "cohort.size=3", "queue.keys=11")
    queue, pointer, encoders, losses = learned(spec, folder)
    shuffled = spec_of()
    with some_workers(tmp_path, 4) as group:
        parts = group.run(learned, spec, folder)
        keys = group.run(unshuffled, shuffled, folder)
        apart = group.run(learned, shuffled, folder)
    for part_queue, part_pointer, part_encoders, part_losses in parts:
        assert torch.equal(part_queue, parts[0][0])
        assert part_pointer == pointer == 18 % 11
        torch.testing.assert_close(part_queue, queue, rtol=0, atol=1e-3)
        for name, tensor in encoders.items():
            torch.testing.assert_close(part_encoders[name], tensor, rtol=1e-4, atol=1e-4)
        for own, alone in zip(part_losses, losses, strict=True):
            assert {name: float(value) for name, value in own.items()} == pytest.approx(
                {name: float(value) for name, value in alone.items()}, rel=1e-3
            )
    for with_shuffle, without in keys:
        torch.testing.assert_close(with_shuffle, without, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(queue, apart[0][0]) for queue, *_ in apart), "one queue, though images change workers"
