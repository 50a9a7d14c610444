import pytest
import torch
from torch import nn

from mcl_ray.models.cost import multiply_adds, parameter_count
from mcl_ray.models.registry import build_network


def small_model():
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(96, 5)
    )


def test_multiply_adds_by_hand():
    # 8 × 8 pixels: dilation 2 spans 5, so (8 + 4 − 5) // 2 + 1 = 4 positions a side
    assert multiply_adds(small_model(), (4, 8, 8)) == 4 * 4 * 6 * (2 * 9) + 96 * 5


def test_multiply_adds_without_dilation_by_hand():
    # taken as undilated it spans 3: (8 + 4 − 3) // 2 + 1 = 5 positions a side
    assert multiply_adds(small_model(), (4, 8, 8), ignore_dilation=True) == 5 * 5 * 6 * (2 * 9) + 96 * 5


def test_only_dilated_networks_differ_from_the_published_rule():
    with torch.device("meta"):
        dilated, plain = build_network("hcgnet_a1", 100).eval(), build_network("resnet8", 100).eval()
    true, published = (multiply_adds(dilated, (3, 32, 32), ignore_dilation=ignored) for ignored in (False, True))
    assert 1.002 < published / true < 1.003
    assert multiply_adds(plain, (3, 32, 32)) == multiply_adds(plain, (3, 32, 32), ignore_dilation=True)


def test_ignoring_dilation_needs_padding_in_pixels():
    with pytest.raises(ValueError, match="padding='same'"):
        multiply_adds(nn.Conv2d(1, 1, 3, padding="same"), (1, 8, 8), ignore_dilation=True)


def test_modules_can_be_left_out():
    model = small_model()
    assert multiply_adds(model, (4, 8, 8), without=[model[3]]) == 4 * 4 * 6 * (2 * 9)
    assert parameter_count(model) == (6 * 2 * 9 + 6) + 12 + (96 * 5 + 5)
    assert parameter_count(model, without=[model[3]]) == (6 * 2 * 9 + 6) + 12


def test_counting_leaves_the_model_as_it_is():
    model = build_network("resnet8", 10)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    multiply_adds(model, (3, 8, 8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
