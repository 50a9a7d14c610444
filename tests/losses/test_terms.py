import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mcl_ray.config.spec import LossSpec
from mcl_ray.contrast.in_batch import in_batch_grid
from mcl_ray.losses.terms import contrastive_terms
from tests.oracles import contrast as oracle

TERMS = ("vcl", "soft_vcl", "icl", "soft_icl")
ALL_ONE = LossSpec(alpha=1, beta=1, gamma=1, lam=1)


def unit(num_peers, batch, dim, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(num_peers, batch, dim, generator=generator, dtype=dtype), dim=-1)


def terms_of(embeddings, labels, ids=None, weights=ALL_ONE):
    ids = torch.arange(len(labels)) if ids is None else torch.tensor(ids)
    return contrastive_terms(in_batch_grid(embeddings, torch.as_tensor(labels), ids, weights.tau), weights)


def assert_matches_oracle(embeddings, labels, ids, weights):
    embeddings = embeddings.clone().requires_grad_()
    slow = oracle.in_batch_terms(embeddings, labels, ids, weights.tau, weights.temperature)
    fast = terms_of(embeddings, labels, ids, weights)
    for name, value in fast.items():
        torch.testing.assert_close(value, slow[name], rtol=1e-9, atol=1e-12)
        got, want = (torch.autograd.grad(v, embeddings, retain_graph=True)[0] for v in (value, slow[name]))
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-11)
    return fast


def published_cases(reference_dir):
    with np.load(reference_dir / "inbatch_losses.npz") as arrays:
        cases = {}
        for key in arrays.files:
            case, quantity = key.split("/")
            cases.setdefault(case, {})[quantity] = torch.tensor(arrays[key])
    return cases


def test_values_and_gradients_of_the_published_code(reference_dir):
    cases = published_cases(reference_dir)
    assert cases
    for case in cases.values():
        weights = LossSpec(
            alpha=1, beta=1, gamma=1, lam=1, tau=float(case["tau"]), temperature=float(case["kd_temperature"])
        )
        embeddings = case["embeddings"].requires_grad_()
        terms = terms_of(embeddings, case["labels"], weights=weights)
        assert set(terms) == set(TERMS)
        for name, value in terms.items():
            torch.testing.assert_close(value, case[name].to(value.dtype), rtol=1e-5, atol=1e-6)
            (gradient,) = torch.autograd.grad(value, embeddings, retain_graph=True)
            want = case[f"grad_{name}"]
            assert (gradient - want).norm() <= 1e-4 * want.norm()


@pytest.mark.parametrize("num_peers", range(1, 9))
def test_every_cohort_size_matches_the_loops(num_peers):
    weights = LossSpec(alpha=1, beta=1, gamma=1, lam=1, tau=0.3, temperature=2)
    labels = [0, 0, 1, 1, 2, 2]
    terms = assert_matches_oracle(unit(num_peers, 6, 4, seed=num_peers), labels, list(range(6)), weights)
    assert set(terms) == ({"vcl"} if num_peers == 1 else set(TERMS))


def test_uneven_classes_an_anchor_without_positive_and_a_repeated_image():
    labels, ids = [0, 0, 0, 1, 1, 2, 3, 3], [0, 1, 2, 3, 4, 5, 6, 6]
    assert_matches_oracle(unit(3, 8, 5), labels, ids, ALL_ONE)


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0]])
def test_no_anchor_with_a_positive_gives_zero_and_no_nan_gradient(labels):
    embeddings = unit(2, len(labels), 4).requires_grad_()
    terms = terms_of(embeddings, labels)
    assert float(terms["vcl"].detach()) == 0
    sum(terms.values()).backward()
    assert bool(embeddings.grad.isfinite().all())


@pytest.mark.parametrize(
    ("tau", "temperature"), [(1e-3, 1e-2), (1e-3, 100.0), (100.0, 1e-2), (100.0, 100.0), (0.1, 3.0)]
)
def test_extreme_temperatures_stay_finite_and_right(tau, temperature):
    weights = LossSpec(alpha=1, beta=1, gamma=1, lam=1, tau=tau, temperature=temperature)
    labels, ids = [0, 0, 1, 1], [0, 1, 2, 3]
    assert_matches_oracle(unit(3, 4, 4), labels, ids, weights)
    single = unit(3, 4, 4, dtype=torch.float32).requires_grad_()
    terms = terms_of(single, labels, weights=weights)
    sum(terms.values()).backward()
    assert bool(single.grad.isfinite().all())
    slow = oracle.in_batch_terms(single.detach().double(), labels, ids, tau, temperature)
    for name, value in terms.items():
        torch.testing.assert_close(value.double(), slow[name], rtol=1e-3, atol=1e-5)


def test_hard_terms_pass_gradcheck():
    """The hard terms have no detached part, so finite differences see the whole gradient."""
    weights = LossSpec(alpha=1, beta=1, gamma=0, lam=0, tau=0.5)
    f = lambda e: tuple(terms_of(e, [0, 0, 1, 1, 1], weights=weights).values())  # noqa: E731
    assert torch.autograd.gradcheck(f, unit(3, 5, 4).requires_grad_())


@pytest.mark.parametrize(
    "weights", [LossSpec(alpha=0, beta=0, gamma=1, lam=0), LossSpec(alpha=0, beta=0, gamma=0, lam=1)]
)
def test_soft_terms_pass_gradcheck_with_the_teacher_held_still(weights):
    base = unit(3, 5, 4)
    labels, ids = torch.tensor([0, 0, 1, 1, 1]), torch.arange(5)
    teachers = in_batch_grid(base, labels, ids, 0.5).logits
    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]

    def held(embeddings):
        students = in_batch_grid(embeddings, labels, ids, 0.5).logits
        entry = (lambda i, _: (i, i)) if weights.gamma else (lambda i, j: (i, j))
        log_q = lambda logits: (logits / 3).log_softmax(-1)  # noqa: E731
        return sum(
            9
            / 5
            * (log_q(teachers[entry(j, i)]).exp() * (log_q(teachers[entry(j, i)]) - log_q(students[entry(i, j)]))).sum()
            for i, j in pairs
        )

    assert torch.autograd.gradcheck(held, base.clone().requires_grad_())
    ours = base.clone().requires_grad_()
    (value,) = contrastive_terms(in_batch_grid(ours, labels, ids, 0.5), weights).values()
    other = base.clone().requires_grad_()
    torch.testing.assert_close(value, held(other))
    torch.testing.assert_close(*(torch.autograd.grad(f, x)[0] for f, x in ((value, ours), (held(other), other))))


def test_autocast_does_not_reach_the_losses():
    embeddings = unit(2, 8, 16, dtype=torch.float32)
    labels = [0, 0, 1, 1, 2, 2, 3, 3]
    plain = terms_of(embeddings, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = terms_of(embeddings, labels)
        from_bf16 = terms_of(embeddings.bfloat16(), labels)
    for name in TERMS:
        assert under_autocast[name].dtype == torch.float32
        assert torch.equal(under_autocast[name], plain[name])
        torch.testing.assert_close(from_bf16[name], plain[name], rtol=0.05, atol=0.01)


@pytest.mark.parametrize(
    ("weight", "term"), [("alpha", "vcl"), ("beta", "icl"), ("gamma", "soft_vcl"), ("lam", "soft_icl")]
)
def test_a_weight_of_zero_skips_its_term(weight, term):
    embeddings, labels = unit(3, 6, 4), [0, 0, 1, 1, 2, 2]
    everything = terms_of(embeddings, labels)
    only = terms_of(
        embeddings, labels, weights=LossSpec(**{**dict.fromkeys(("alpha", "beta", "gamma", "lam"), 0), weight: 1})
    )
    assert list(only) == [term]
    torch.testing.assert_close(only[term], everything[term])
    without = terms_of(embeddings, labels, weights=ALL_ONE.model_copy(update={weight: 0}))
    assert term not in without
    assert len(without) == 3
