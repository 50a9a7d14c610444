"""Every published network against the numbers of the published implementation."""

import pytest
import torch

from mcl_ray.cohort import build_cohort
from mcl_ray.config.registry import NETWORKS
from mcl_ray.config.spec import CohortSpec
from mcl_ray.interop import load_published, published_names
from mcl_ray.models.cost import multiply_adds, parameter_count
from tests.support.published import CIFAR_NETWORKS, IMAGE_SHAPE, IMAGENET_NETWORKS, NUM_CLASSES, fill, images, read_case

CASES = [(network, num_peers) for network in (*CIFAR_NETWORKS, *IMAGENET_NETWORKS) for num_peers in (2, 4)]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-x{case[1]}")
def published(request, reference_dir):
    network, num_peers = request.param
    num_classes = NUM_CLASSES[NETWORKS[network].regime]
    cohort = build_cohort(CohortSpec(size=num_peers, networks=(network,), sharing="reference"), num_classes)
    return read_case(reference_dir, network, num_peers), cohort.eval()


def image_shape(cohort):
    return IMAGE_SHAPE[NETWORKS[cohort.names[0]].regime]


def test_all_are_here():
    assert len(CIFAR_NETWORKS) == 10
    assert IMAGENET_NETWORKS == ["resnet18", "resnet34"]


def test_names_and_shapes_in_order(published):
    case, cohort = published
    state_dict = cohort.state_dict()
    ours = [(name, list(state_dict[our_name].shape)) for name, our_name in published_names(cohort).items()]
    assert ours == list(case.shapes.items())


def test_cost(published):
    case, cohort = published
    assert parameter_count(cohort, without=cohort.heads) == case.parameters
    as_published = multiply_adds(cohort, image_shape(cohort), without=cohort.heads, ignore_dilation=True)
    assert as_published == case.multiply_adds
    assert [cohort.peer(i).feature_dim for i in range(cohort.num_peers)] == case.embedding_dim


def test_outputs(published):
    case, cohort = published
    load_published(cohort, {name: fill(name, shape) for name, shape in case.shapes.items()})
    with torch.no_grad():
        logits, features = cohort.logits_and_features(images(image_shape(cohort)))
    for got, want in ((logits, case.logits), (torch.stack(features), case.features)):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5 * want.abs().max().item())
