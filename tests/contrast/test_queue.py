import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mcl_ray.config.spec import LossSpec
from mcl_ray.contrast.queue import KeyQueue
from mcl_ray.losses.grid import ContrastGrid
from mcl_ray.losses.streamed import streamed_losses
from mcl_ray.losses.terms import contrastive_terms

TERMS = {"vcl", "soft_vcl", "icl", "soft_icl"}
ALL_ONE = LossSpec(alpha=1, beta=1, gamma=1, lam=1)


def unit(*shape, seed=0, dtype=torch.float64):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=-1)


def a_queue(num_peers=2, size=10, dim=4):
    return KeyQueue(num_peers, size, dim, generator=torch.Generator().manual_seed(0))


def whole_grid(queries, keys, queue, tau):
    columns = torch.cat([keys[:, :, None], queue[:, None].expand(-1, keys.shape[1], -1, -1)], dim=2)
    logits = torch.einsum("ibd,jbmd->ijbm", queries, columns) / tau
    first = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    return ContrastGrid(logits=logits, positives=first, valid=first)


FIELDS = {"vcl": "alpha", "icl": "beta", "soft_vcl": "gamma", "soft_icl": "lam"}


def gradients(queries, keys, queue, weights, wrt, chunk):
    """Of each term, from losses in which the others have no weight."""
    found = {}
    for name, field in FIELDS.items():
        alone = weights.model_copy(update=dict.fromkeys(FIELDS.values(), 0.0) | {field: 1.0})
        if name == "vcl" or len(queries) > 1:
            total = streamed_losses(queries, keys, queue, alone, chunk=chunk).total
            found[name] = torch.autograd.grad(total, wrt, retain_graph=True)[0]
    return found


@pytest.mark.parametrize("case", ["n2", "n3"])
def test_values_gradients_and_queues_of_the_published_code(reference_dir, case):
    with np.load(reference_dir / "moco_losses.npz") as arrays:
        known = {key.partition("/")[2]: torch.tensor(arrays[key]) for key in arrays.files if key.startswith(case)}
    peers = range(len(known["queue_before"]))
    momentum = float(known["key_momentum"])
    query_weights = torch.stack([known[f"q{i}_weight_before"] for i in peers]).requires_grad_()
    query_bias = torch.stack([known[f"q{i}_bias_before"] for i in peers])
    key_weights, key_bias = (
        torch.stack([known[f"k{i}_{part}_before"].lerp(known[f"q{i}_{part}_before"], 1 - momentum) for i in peers])
        for part in ("weight", "bias")
    )
    for i in peers:
        torch.testing.assert_close(key_weights[i], known[f"k{i}_weight_after"], rtol=1e-5, atol=1e-7)

    def embed(images, weights, bias):
        return F.normalize(torch.einsum("bf,ndf->nbd", images, weights) + bias[:, None], dim=-1)

    queue = a_queue(len(peers), 64, 16)
    queue.keys = known["queue_before"].mT.contiguous()
    queries = embed(known["query_input"], query_weights, query_bias)
    keys = embed(known["key_input"], key_weights, key_bias)
    weights = LossSpec(
        alpha=1,
        beta=1,
        gamma=1,
        lam=1,
        tau=float(known["temperature"]),
        temperature=float(known["kd_temperature"]),
    )
    terms = streamed_losses(queries, keys, queue.keys, weights, chunk=24).terms
    assert set(terms) == TERMS
    for name, gradient in gradients(queries, keys, queue.keys, weights, query_weights, chunk=24).items():
        torch.testing.assert_close(terms[name], known[name], rtol=1e-5, atol=0)
        want = known[f"grad_weight_{name}"]
        assert (gradient - want).norm() <= 1e-4 * want.norm()
    queue.enqueue(keys)
    torch.testing.assert_close(queue.keys.mT, known["queue_after"], rtol=1e-5, atol=1e-6)
    assert queue.pointer == known["queue_pointer_after"][0]


@pytest.mark.parametrize("num_peers", [1, 2, 4])
@pytest.mark.parametrize("chunk", [1, 7, 100])
@pytest.mark.parametrize("tau", [0.02, 1.0])
def test_chunks_make_no_difference(num_peers, chunk, tau):
    queries, keys = unit(num_peers, 5, 6).requires_grad_(), unit(num_peers, 5, 6, seed=1)
    queue = unit(num_peers, 23, 6, seed=2)
    weights = ALL_ONE.model_copy(update={"tau": tau})
    streamed = streamed_losses(queries, keys, queue, weights, chunk=chunk)
    whole = contrastive_terms(whole_grid(queries, keys, queue, tau), weights)
    assert set(streamed.terms) == set(whole) == (TERMS if num_peers > 1 else {"vcl"})
    found = gradients(queries, keys, queue, weights, queries, chunk)
    for name, value in whole.items():
        wanted = torch.autograd.grad(value, queries, retain_graph=True)[0]
        torch.testing.assert_close(streamed.terms[name], value, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(found[name], wanted, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("chunk", [None, 4])
def test_the_total_is_the_weighted_sum_of_the_terms(chunk):
    queries, keys, queue = unit(3, 5, 6).requires_grad_(), unit(3, 5, 6, seed=1), unit(3, 23, 6, seed=2)
    weights = LossSpec(alpha=0.1, beta=0.3, gamma=2.0, lam=0.7)
    total = streamed_losses(queries, keys, queue, weights, chunk=chunk).total
    whole = contrastive_terms(whole_grid(queries, keys, queue, weights.tau), weights)
    wanted = sum(getattr(weights, FIELDS[name]) * value for name, value in whole.items())
    torch.testing.assert_close(total, wanted, rtol=1e-9, atol=1e-12)
    found, expected = (torch.autograd.grad(one, queries)[0] for one in (total, wanted))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-11)


def test_terms_without_weight_are_left_out():
    queries, keys, queue = unit(2, 3, 4), unit(2, 3, 4, seed=1), unit(2, 9, 4, seed=2)
    for name, field in FIELDS.items():
        alone = LossSpec(**dict.fromkeys(FIELDS.values(), 0.0) | {field: 2.0})
        assert set(streamed_losses(queries, keys, queue, alone).terms) == {name}


def test_memory_grows_with_the_chunk_and_not_with_the_queue():
    """Nothing of the size of a row of the grid is kept for the backward pass."""
    kept = []
    queries, keys, queue = unit(2, 3, 4).requires_grad_(), unit(2, 3, 4, seed=1), unit(2, 500, 4, seed=2)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        losses = streamed_losses(queries, keys, queue, ALL_ONE, chunk=50)
    assert len(losses.terms) == 4
    assert max(kept) <= queries.numel()


@pytest.mark.parametrize("batches", [[4, 4, 4, 4], [7, 7], [10, 3], [25, 2]])
def test_the_oldest_go_first_whatever_the_batch(batches):
    queue = a_queue()
    before, entered = queue.keys.clone(), []
    for number, size in enumerate(batches):
        keys = unit(2, size, 4, seed=10 + number, dtype=torch.float32)
        queue.enqueue(keys)
        entered.append(keys)
    history = torch.cat([before, *entered], dim=1)
    assert torch.equal(queue.keys.roll(-queue.pointer, dims=1), history[:, -10:])


def test_a_queue_starts_with_unit_vectors_of_its_own():
    queue = a_queue(3, 50, 8)
    torch.testing.assert_close(queue.keys.norm(dim=-1), torch.ones(3, 50))
    assert not torch.equal(queue.keys[0], queue.keys[1])
