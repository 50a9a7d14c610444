import pytest
import torch

from mcl_ray.cohort import Cohort, build_cohort
from mcl_ray.config.registry import NETWORKS
from mcl_ray.config.spec import CohortSpec
from mcl_ray.models.registry import build_network


def cohort_of(networks=("resnet8",), size=1, sharing="reference", seed=0):
    torch.manual_seed(seed)
    spec = CohortSpec(networks=networks, size=size, sharing=sharing, embedding_dim=12)
    return build_cohort(spec, num_classes=10, in_channels=1)


def digits(count=4, seed=1):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sharing", ["none", "stem", "reference"])
@pytest.mark.parametrize(
    ("network", "size"), [(name, 2) for name in NETWORKS] + [("resnet8", size) for size in (1, 3, 4, 16)]
)
def test_any_network_size_and_sharing(network, size, sharing):
    with torch.device("meta"):
        cohort = cohort_of((network,), size=size, sharing=sharing)
    shared = sharing == "stem" or (sharing == "reference" and size > 2)
    assert cohort.num_peers == size
    assert cohort.shares_stem == shared
    assert len(cohort.stems) == (1 if shared else size)
    assert len(cohort.branches) == len(cohort.classifiers) == len(cohort.heads) == size


@pytest.mark.parametrize("sharing", ["none", "stem"])
@pytest.mark.parametrize("size", [1, 2, 16])
def test_output(size, sharing):
    output = cohort_of(size=size, sharing=sharing)(digits())
    assert output.logits.shape == (size, 4, 10)
    assert output.embeddings.shape == (size, 4, 12)
    torch.testing.assert_close(output.embeddings.norm(dim=2), torch.ones(size, 4))


@pytest.mark.parametrize("training", [True, False])
def test_peers_that_share_nothing_are_separate_networks(training):
    cohort = cohort_of(size=3, sharing="none").train(training)
    torch.manual_seed(0)
    networks = [build_network("resnet8", 10, 1).train(training) for _ in range(3)]
    output, (_, features) = cohort(digits()), cohort.logits_and_features(digits())
    for i, network in enumerate(networks):
        logits_alone, features_alone = network(digits())
        assert torch.equal(output.logits[i], logits_alone)
        assert torch.equal(features[i], features_alone)
        assert torch.equal(output.embeddings[i], cohort.heads[i](features_alone))
    assert not torch.equal(output.logits[0], output.logits[1])


@pytest.mark.parametrize("sharing", ["none", "stem"])
def test_a_peer_is_a_network_that_holds_the_cohort_s_tensors(sharing):
    cohort = cohort_of(size=3, sharing=sharing).eval()
    want = cohort(digits()).logits
    for i in range(3):
        assert torch.equal(cohort.peer(i)(digits())[0], want[i])
    with torch.no_grad():
        cohort.peer(2).classifier.bias.add_(1)
    torch.testing.assert_close(cohort.logits(digits()), want + torch.tensor([0.0, 0.0, 1.0])[:, None, None])


def test_logits_are_those_of_training_without_the_heads():
    cohort = cohort_of(size=4, sharing="stem").eval()
    want = cohort(digits()).logits
    for head in cohort.heads:
        head.register_forward_pre_hook(lambda *_: pytest.fail("a head ran"))
    assert torch.equal(cohort.logits(digits()), want)
    assert torch.equal(cohort.logits_and_features(digits())[0], want)


def test_a_shared_stem_learns_from_every_peer():
    cohort = cohort_of(size=3, sharing="stem").eval()
    weight = cohort.stems[0].conv.weight
    losses = cohort(digits()).logits.logsumexp(2).sum(1)
    alone = [torch.autograd.grad(loss, weight, retain_graph=True)[0] for loss in losses]
    assert all(gradient.norm() > 0 for gradient in alone)
    together = torch.autograd.grad(losses.sum(), weight)[0]
    torch.testing.assert_close(together, torch.stack(alone).sum(0))


def test_a_shared_stem_runs_once():
    cohort = cohort_of(size=4, sharing="stem")
    cohort(digits())
    assert cohort.stems[0].norm.num_batches_tracked == 1


def test_peers_that_share_nothing_do_not_teach_each_other_s_stem():
    cohort = cohort_of(size=2, sharing="none")
    cohort(digits()).logits[0].logsumexp(1).sum().backward()
    assert cohort.stems[0].conv.weight.grad.norm() > 0
    assert cohort.stems[1].conv.weight.grad.norm() == 0


def test_unlike_peers():
    cohort = cohort_of(("resnet8", "wrn_16_2", "resnet20"), size=3)
    logits, features = cohort.logits_and_features(digits())
    assert not cohort.shares_stem
    assert logits.shape == (3, 4, 10)
    assert [tuple(f.shape) for f in features] == [(4, 64), (4, 128), (4, 64)]
    assert cohort(digits()).embeddings.shape == (3, 4, 12)


@pytest.mark.parametrize("sharing", ["none", "stem"])
def test_every_tensor_has_one_name(sharing):
    cohort = cohort_of(size=4, sharing=sharing)
    state_dict = cohort.state_dict()
    assert len({tensor.data_ptr() for tensor in state_dict.values()}) == len(state_dict)
    assert {name.split(".")[0] for name in state_dict} == {"stems", "branches", "classifiers", "heads"}


@pytest.mark.parametrize("sharing", ["none", "stem"])
def test_a_state_dict_carries_a_cohort_over(sharing):
    first, second = (cohort_of(size=3, sharing=sharing, seed=seed) for seed in (0, 1))
    first(digits())
    assert not torch.equal(first.eval()(digits()).logits, second.eval()(digits()).logits)
    second.load_state_dict(first.state_dict())
    for got, want in zip(second(digits()), first(digits()), strict=True):
        assert torch.equal(got, want)


def test_the_seed_decides_the_weights():
    first, same, other = (cohort_of(size=2, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["stems.0.conv.weight"], other["stems.0.conv.weight"])


def test_embeddings_stay_float32_under_autocast():
    cohort = cohort_of(size=3, sharing="stem")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = cohort(digits())
    assert output.logits.dtype == torch.bfloat16
    assert output.embeddings.dtype == torch.float32
    torch.testing.assert_close(output.embeddings.norm(dim=2), torch.ones(3, 4))


def test_memory_format_does_not_change_the_outputs():
    cohort = cohort_of(size=3, sharing="stem").eval()
    want = cohort(digits())
    got = cohort.to(memory_format=torch.channels_last)(digits().contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(got.logits, want.logits)
    torch.testing.assert_close(got.embeddings, want.embeddings)


@pytest.mark.parametrize(("names", "count"), [((), 0), (("resnet8",), 2)])
def test_names_and_peers_must_match(names, count):
    networks = [build_network("resnet8", 10, 1) for _ in range(count)]
    with pytest.raises(ValueError, match=f"got {len(names)} for {count} peers"):
        Cohort(names, networks, share_stem=False, embedding_dim=4)
