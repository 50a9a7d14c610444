import pytest

from mcl_ray.config.overrides import replace
from mcl_ray.config.registry import published_networks
from searches.spec import search_registry

START = {"losses.alpha": 0.1, "losses.beta": 0.1, "losses.gamma": 1.0, "losses.lam": 1.0, "cohort.size": 2}


@pytest.mark.parametrize("name", search_registry.SEARCHES)
def test_a_search_varies_the_four_weights_and_the_cohort_size_and_starts_as_published(name):
    sweep = search_registry.load(name)
    assert sweep.name == name
    assert set(sweep.space) == set(START)
    assert sweep.start_points == [START if name != "moco" else dict.fromkeys(START, 1.0) | {"cohort.size": 2}]


def test_every_network_published_on_cifar_has_its_search():
    published = published_networks("cifar")
    assert len(published) == 10
    for network in published:
        sweep = search_registry.load(f"cifar_{network}")
        assert sweep.run.cohort.peers == (network, network)
        assert replace(sweep, {"name": "cifar", "run.cohort.networks": "resnet32"}) == search_registry.load("cifar")
        assert network in search_registry.SEARCHES[f"cifar_{network}"].__doc__
