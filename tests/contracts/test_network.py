"""The contract of a network: what cohorts, training, estimates, checkpoints and exports rely on.

For networks of one's own, derive a test class from `NetworkContract` whose fixture `name` returns their names.
"""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor

from mcl_ray.cohort import build_cohort
from mcl_ray.config.spec import CohortSpec
from mcl_ray.models.cost import multiply_adds, parameter_count
from mcl_ray.models.network import Network
from mcl_ray.models.registry import build_network
from mcl_ray.transfer.member import Member
from mcl_ray.transfer.program import module_of, to_program

KINDS = ("resnet8", "resnet110", "wrn_16_2", "hcgnet_a1", "shufflenetv2_05x", "resnet18", "resnext50_32x4d")
"""A built-in network for every module, and for every kind of block."""
CLASSES = 5
CLOSE = {"rtol": 1e-3, "atol": 1e-4}
"""Tolerance of float32 through 110 layers, in another order of operations."""


class NetworkContract:
    """Tests of a network that is registered by name; `image_shape` is one that it accepts."""

    image_shape = (3, 32, 32)

    @pytest.fixture
    def name(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def network(self, name: str) -> Network:
        torch.manual_seed(0)
        return build_network(name, CLASSES, self.image_shape[0])

    @pytest.fixture
    def images(self) -> Tensor:
        return torch.randn(4, *self.image_shape, generator=torch.Generator().manual_seed(1))

    def test_it_maps_images_to_logits_and_features(self, network, images):
        logits, features = network(images)
        assert isinstance(network, Network)
        assert logits.shape == (len(images), CLASSES)
        assert features.shape == (len(images), network.feature_dim)
        torch.testing.assert_close(network.classifier(features), logits)

    def test_it_has_a_stem_that_a_branch_leaves_as_it_is(self, network, images):
        network.eval()
        maps = network.stem(images).detach()
        before = maps.clone()
        features = network.branch(maps)
        assert torch.equal(maps, before), "several branches read the output of one stem"
        torch.testing.assert_close(features, network(images)[1])

    def test_its_weights_come_from_torchs_generator(self, name, network):
        for seed, is_equal in ((0, True), (1, False)):
            torch.manual_seed(seed)
            other = build_network(name, CLASSES, self.image_shape[0]).state_dict()
            assert all(torch.equal(other[key], tensor) for key, tensor in network.state_dict().items()) == is_equal

    def test_only_its_classifier_depends_on_the_number_of_classes(self, name, network):
        with torch.device("meta"):
            wider = build_network(name, CLASSES + 2, self.image_shape[0]).state_dict()
        shapes = {key: tensor.shape for key, tensor in network.state_dict().items()}
        assert wider.keys() == shapes.keys()
        differ = {key for key, shape in shapes.items() if wider[key].shape != shape}
        assert differ == {f"classifier.{key}" for key in network.classifier.state_dict()}

    def test_its_cost_is_known_without_its_weights(self, name, network):
        with torch.device("meta"):
            empty = build_network(name, CLASSES, self.image_shape[0])
        assert parameter_count(empty) == parameter_count(network) > 0
        assert multiply_adds(empty, self.image_shape) == multiply_adds(network, self.image_shape) > 0

    def test_every_parameter_learns(self, network, images):
        logits, _ = network(images)
        logits.logsumexp(1).sum().backward()
        assert [key for key, one in network.named_parameters() if one.grad is None] == []
        assert all(bool(one.grad.isfinite().all()) for one in network.parameters())

    def test_a_score_does_not_depend_on_the_batch_nor_change_the_network(self, network, images):
        network.eval()
        before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
        with torch.no_grad():
            together = network(images)[0]
            apart = torch.cat([network(image[None])[0] for image in images])
        torch.testing.assert_close(apart, together, **CLOSE)
        assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())

    def test_a_checkpoint_restores_it(self, name, network, images):
        network(images)  # changes the statistics of batch normalisation
        content = io.BytesIO()
        torch.save(network.state_dict(), content)
        other = build_network(name, CLASSES, self.image_shape[0])
        other.load_state_dict(torch.load(io.BytesIO(content.getvalue()), weights_only=True))
        for one in (network, other):
            one.eval()
        with torch.no_grad():
            assert torch.equal(other(images)[0], network(images)[0])

    def test_it_runs_in_bf16_and_with_channels_last(self, network, images):
        network.eval()
        with torch.no_grad():
            plain = network(images)[0]
            network.to(memory_format=torch.channels_last)
            torch.testing.assert_close(network(images.to(memory_format=torch.channels_last))[0], plain, **CLOSE)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert bool(network(images)[0].isfinite().all())

    def test_peers_share_its_stem(self, name, network, images):
        cohort = build_cohort(CohortSpec(size=3, networks=(name,), sharing="stem"), CLASSES, self.image_shape[0])
        stem = parameter_count(network.stem)
        assert stem > 0
        assert parameter_count(cohort, without=cohort.heads) == 3 * parameter_count(network) - 2 * stem
        logits = cohort(images).logits
        assert logits.shape == (3, len(images), CLASSES)
        for peer in logits:
            gradients = torch.autograd.grad(peer.logsumexp(1).sum(), cohort.stems.parameters(), retain_graph=True)
            assert any(bool(gradient.count_nonzero()) for gradient in gradients)

    @pytest.mark.slow
    def test_it_is_exported_as_a_program(self, name, images):
        cohort = build_cohort(CohortSpec(size=1, networks=(name,)), CLASSES, self.image_shape[0]).eval()
        content = to_program(module_of(cohort, Member(peers=(0,), networks=(name,))), self.image_shape)
        program = torch.export.load(io.BytesIO(content)).module()
        with torch.no_grad():
            torch.testing.assert_close(program(images), cohort.logits(images)[0], **CLOSE)


class TestBuiltIn(NetworkContract):
    image_shape = (3, 16, 16)

    @pytest.fixture(params=KINDS)
    def name(self, request):
        return request.param
