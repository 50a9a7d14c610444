"""Supervised runs with memory banks: their results, memory banks and resuming, with one worker and several."""

import pytest
import torch

from mcl_ray.config import recipes
from mcl_ray.config.overrides import parse, replace
from mcl_ray.config.spec import RunSpec
from mcl_ray.losses.distill import logit_distillation
from tests.support.comparison import figures
from tests.support.pictures import write_folder
from tests.support.small_runs import Parts, newest, replace_newest, train
from tests.support.workers import some_workers

SMALL = ("networks=resnet8", "image_size=16", "batch.size=6", "negatives=12", "lr=0.02")


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "pictures")


def spec_of(*overrides, epochs=4):
    schedule = (f"epochs={epochs}", f"milestones=[{epochs - 1}]")
    return replace(recipes.imagenet(), parse(RunSpec, [*SMALL, *schedule, *overrides]))


def slots(writer):
    return newest(writer).method["slots"]


def test_it_learns_the_colours_and_remembers_unit_vectors(folder, tmp_path):
    writer = train(spec_of(epochs=8), folder, tmp_path / "one")
    values = figures(tmp_path / "one")
    assert values[8, "test", "top1", "mean"] > 90
    assert {"vcl", "icl", "soft_vcl", "soft_icl"} <= {metric for _, _, metric, _ in values}
    bank = slots(writer)
    assert bank.shape == (2, 24, 128)
    torch.testing.assert_close(bank.norm(dim=-1), torch.ones(2, 24))


def test_the_bank_is_part_of_what_is_learned(folder, tmp_path):
    """What a fresh bank in place of the remembered one would do: other figures."""
    train(spec_of(), folder, tmp_path / "whole")
    writer = train(spec_of(), folder, tmp_path / "parts", epochs=2)
    checkpoint = newest(writer)
    checkpoint.method["slots"].normal_()
    replace_newest(writer, checkpoint)
    train(spec_of(), folder, tmp_path / "parts")
    assert figures(tmp_path / "parts") != figures(tmp_path / "whole")


def test_without_weights_nothing_is_drawn_or_remembered(folder, tmp_path):
    writer = train(spec_of("alpha=0", "beta=0", "gamma=0", "lam=0", epochs=2), folder, tmp_path)
    assert slots(writer).numel() == 0
    assert "vcl" not in {metric for _, _, metric, _ in figures(tmp_path)}


def remembered(spec, folder):
    """The banks after three steps, and the last step's losses."""
    parts = Parts(spec, folder)
    losses = [parts.step(batch) for batch in parts.batches(3)]
    return parts.method.state_dict()["slots"], losses[-1]


@pytest.mark.slow
def test_workers_remember_the_same_and_together_learn_as_one(folder, tmp_path):
    """Six images of each batch, 2, 2, 1 and 1 to each."""
    spec = spec_of("batch_statistics=synchronised", "cohort.size=3", "logit_distillation=reference")
    bank, losses = remembered(spec, folder)
    with some_workers(tmp_path, 4) as group:
        parts = group.run(remembered, spec, folder)
    for part_bank, part_losses in parts:
        assert torch.equal(part_bank, parts[0][0])
        torch.testing.assert_close(part_bank, bank, rtol=0, atol=1e-3)
        for name, value in losses.items():
            torch.testing.assert_close(part_losses[name], value, rtol=1e-3, atol=1e-4)


def test_published_distillation_of_imagenet_teaches_the_last_peer_and_the_mean():
    logits = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0)).requires_grad_()
    value = logit_distillation(logits, 3.0, "last")
    teacher = (logits.mean(0) / 3).softmax(-1)
    want = 9 / 5 * (teacher * (teacher.log() - (logits[-1] / 3).log_softmax(-1))).sum()
    torch.testing.assert_close(value, want)
    got, wanted = (torch.autograd.grad(v, logits, retain_graph=True)[0] for v in (value, want))
    torch.testing.assert_close(got, wanted)
    assert got[0].abs().sum() > 0, "the others learn through the teacher"
