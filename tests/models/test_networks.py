import pytest
import torch
from torch import nn

from mcl_ray.config.registry import NETWORKS
from mcl_ray.errors import SpecError
from mcl_ray.models.network import Network
from mcl_ray.models.registry import build_network

QUICK = ["resnet8", "wrn_16_2", "shufflenetv2_05x", "hcgnet_a1"]


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes(name):
    network = build_network(name, 7, in_channels=2)
    logits, features = network(torch.randn(3, 2, 16, 16))
    maps = network.stem(torch.randn(3, 2, 16, 16))
    assert isinstance(network, Network)
    assert logits.shape == (3, 7)
    assert features.shape == (3, network.feature_dim)
    assert maps.ndim == 4


@pytest.mark.parametrize("name", ["resnet8", "resnet20"])
def test_digits_fit(name):
    logits, features = build_network(name, 10, in_channels=1)(torch.randn(4, 1, 8, 8))
    assert logits.shape == (4, 10)
    assert features.shape == (4, 64)


@pytest.mark.parametrize(("name", "layers"), [("resnet8", 8), ("resnet20", 20), ("resnet56", 56), ("resnet110", 110)])
def test_depth_is_what_the_name_says(name, layers):
    with torch.device("meta"):
        network = build_network(name, 10)
    on_the_way = [
        path
        for path, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and "shortcut" not in path
    ]
    assert len(on_the_way) == layers


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_2"])
def test_convolutions_start_with_he_s_variance(name):
    torch.manual_seed(0)
    network = build_network(name, 10)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 2000:
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.eq(1).all()
            assert module.bias.eq(0).all()


@pytest.mark.parametrize("name", QUICK)
def test_activations_start_in_a_sensible_range(name):
    torch.manual_seed(0)
    logits, features = build_network(name, 10)(torch.randn(16, 3, 32, 32))
    assert 0.05 < features.std() < 5
    assert 0.05 < logits.std() < 5


def test_an_unknown_name_is_reported_with_the_nearest():
    with pytest.raises(SpecError, match="did you mean 'resnet34'"):
        build_network("resnet3", 10)
