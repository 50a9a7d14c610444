"""Networks as programs of torch.export, which give the networks' own logits."""

import io

import pytest
import torch

from mcl_ray.cohort import build_cohort
from mcl_ray.config.registry import NETWORKS
from mcl_ray.config.spec import CohortSpec
from mcl_ray.interop import load_published
from mcl_ray.transfer.member import Member
from mcl_ray.transfer.program import module_of, tensors_of, to_program

TOLERANCE = {"rtol": 1e-3, "atol": 1e-5}
"""Of float32 through 110 layers, in another memory format."""
ONE_OF_EACH = ("resnet20", "resnet110", "wrn_16_2", "hcgnet_a1", "shufflenetv2_05x", "resnet18", "resnext50_32x4d")
"""A network for every kind of block."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_every_kind_of_network_becomes_a_program(name):
    side = 64 if NETWORKS[name].regime == "imagenet" else 32
    cohort = build_cohort(CohortSpec(networks=(name,), size=1), 10, 3).eval().to(memory_format=torch.channels_last)
    member = Member(peers=(0,), networks=(name,))
    tensors = tensors_of(cohort, member)
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    apart = build_cohort(CohortSpec(networks=(name,), size=1), 10, 3)
    load_published(apart, {f"module_list.0.{key}": tensor for key, tensor in tensors.items()})
    images = torch.randn(3, 3, side, side)
    content = to_program(module_of(apart, member), (3, side, side))
    program = torch.export.load(io.BytesIO(content)).module()
    with torch.no_grad():
        wanted = cohort.logits(images)[0]
        torch.testing.assert_close(program(images), wanted, **TOLERANCE)
        torch.testing.assert_close(program(images.to(memory_format=torch.channels_last)), wanted, **TOLERANCE)
