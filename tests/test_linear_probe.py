"""What is frozen stays to the bit, whatever is done with the cohort."""

import pytest
import torch

from mcl_ray.config.spec import CohortSpec, OptimizerSpec
from mcl_ray.linear_probe import build_backbone, build_linear_classifiers
from mcl_ray.training.optim import build_optimizer


def a_backbone(size=2, networks=("resnet8",), sharing="none"):
    torch.manual_seed(0)
    backbone = build_backbone(CohortSpec(size=size, networks=networks, sharing=sharing), in_channels=1)
    backbone(torch.randn(8, 1, 8, 8))  # running statistics move
    return backbone


@pytest.fixture
def images():
    return torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_a_step_changes_classifiers_and_nothing_else(images):
    cohort = build_linear_classifiers(a_backbone(), "each", 3)
    before = {name: tensor.clone() for name, tensor in cohort.state_dict().items()}
    optimizer = build_optimizer(cohort, OptimizerSpec(weight_decay=0.1))
    cohort.train()
    cohort(images).logits.logsumexp(-1).sum().backward()
    optimizer.step()
    changed = {name for name, tensor in cohort.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {f"classifiers.{i}.{part}" for i in range(2) for part in ("weight", "bias")}
    assert set(cohort.backbone()) == before.keys() - changed
    assert not cohort.branches[0].training
    assert cohort.classifiers.training


@pytest.mark.parametrize("sharing", ["none", "stem"])
def test_each_peers_features_are_classified_by_themselves(images, sharing):
    backbone = a_backbone(3, sharing=sharing)
    cohort = build_linear_classifiers(backbone, "each", 3)
    wanted = [c(f) for c, f in zip(cohort.classifiers, backbone.eval().features(images), strict=True)]
    torch.testing.assert_close(cohort(images).logits, torch.stack(wanted))
    assert cohort.num_peers == 3


@pytest.mark.parametrize("sharing", ["none", "stem"])
def test_one_peer_by_its_number(images, sharing):
    backbone = a_backbone(3, sharing=sharing)
    cohort = build_linear_classifiers(backbone, 2, 3)
    torch.testing.assert_close(cohort.features(images), [backbone.eval().features(images)[2]])
    assert cohort(images).logits.shape == (1, 5, 3)


def test_the_mean_of_all_peers(images):
    backbone = a_backbone(3)
    cohort = build_linear_classifiers(backbone, "mean", 3)
    torch.testing.assert_close(cohort.features(images), [torch.stack(backbone.eval().features(images)).mean(0)])
    assert cohort(images).logits.shape == (1, 5, 3)


def test_unlike_peers_have_classifiers_of_their_width(images):
    backbone = a_backbone(2, ("resnet8", "wrn_16_2"))
    cohort = build_linear_classifiers(backbone, "each", 3)
    assert [classifier.in_features for classifier in cohort.classifiers] == [64, 128]
    assert cohort(images).logits.shape == (2, 5, 3)


def test_classifiers_start_small():
    classifier = build_linear_classifiers(a_backbone(1), "each", 500).classifiers[0]
    assert float(classifier.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    assert not classifier.bias.any()
