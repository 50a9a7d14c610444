import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mcl_ray.config.spec import LossSpec
from mcl_ray.contrast import gathered
from mcl_ray.contrast.bank import ContrastSlots, MemoryBank, SlotSampler
from mcl_ray.contrast.gathered import gathered_products
from mcl_ray.distributed import SINGLE_SHARD
from mcl_ray.losses.terms import contrastive_terms
from tests.oracles import bank as oracle

TERMS = {"vcl", "soft_vcl", "icl", "soft_icl"}
LABELS = torch.tensor([2, 0, 2, 1, 0, 2, 2, 0, 2, 4])  # class 3 is empty; 1 and 4 have one image each


def a_bank(num_peers=2, num_images=10, dim=6, momentum=0.5, dtype=torch.float32):
    bank = MemoryBank(num_peers, num_images, dim, momentum=momentum, generator=torch.Generator().manual_seed(0))
    bank.slots = F.normalize(bank.slots.to(dtype), dim=-1)
    return bank


def unit(*shape, seed=1, dtype=torch.float64):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=-1)


def slots_for(image_ids, positives=2, negatives=7, seed=0):
    sampler = SlotSampler(LABELS, positives=positives, negatives=negatives)
    return sampler(torch.tensor(image_ids), torch.Generator().manual_seed(seed), SINGLE_SHARD)


@pytest.mark.parametrize("case", ["n2", "n3", "n4"])
def test_values_gradients_and_updated_banks_of_the_published_code(reference_dir, case):
    with np.load(reference_dir / "memory_bank_losses.npz") as arrays:
        known = {key.partition("/")[2]: torch.tensor(arrays[key]) for key in arrays.files if key.startswith(case)}
    embeddings = known["embeddings"].requires_grad_()
    num_peers = len(embeddings)
    bank = a_bank(num_peers, 200, 32, momentum=float(known["memory_momentum"]))
    bank.slots = torch.stack([known[f"memory_before_{i}"] for i in range(num_peers)])
    slots = torch.cat([known["positive_index"], known["negative_index"]], dim=1)
    weights = LossSpec(
        alpha=1, beta=1, gamma=1, lam=1, tau=float(known["tau"]), temperature=float(known["kd_temperature"])
    )
    grid = bank.grid(embeddings, ContrastSlots(slots, torch.ones(len(slots), 1, dtype=torch.bool)), weights.tau)
    terms = contrastive_terms(grid, weights)
    assert set(terms) == TERMS
    for name, value in terms.items():
        torch.testing.assert_close(value, known[name], rtol=1e-5, atol=0)
        (gradient,) = torch.autograd.grad(value, embeddings, retain_graph=True)
        assert (gradient - known[f"grad_{name}"]).norm() <= 1e-5 * known[f"grad_{name}"].norm()
    bank.update(embeddings, known["positive_index"][:, 0])
    for i in range(num_peers):
        torch.testing.assert_close(bank.slots[i], known[f"memory_after_{i}"], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("num_peers", [1, 2, 4])
@pytest.mark.parametrize("tau", [0.05, 1.0])
def test_the_terms_are_those_of_the_oracle(num_peers, tau):
    embeddings = unit(num_peers, 4, 6).requires_grad_()
    bank = a_bank(num_peers, dtype=torch.float64)
    contrast = slots_for([0, 3, 9, 7])
    terms = contrastive_terms(bank.grid(embeddings, contrast, tau), LossSpec(alpha=1, beta=1, gamma=1, lam=1))
    slow = oracle.bank_terms(embeddings, bank.slots, contrast, tau, temperature=3.0)
    assert set(terms) == (TERMS if num_peers > 1 else {"vcl"})
    for name, value in terms.items():
        torch.testing.assert_close(value, slow[name], rtol=1e-9, atol=1e-12)
        got, want = (torch.autograd.grad(v, embeddings, retain_graph=True)[0] for v in (value, slow[name]))
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("gathered_bytes", [1, 2**26])
def test_products_are_the_products_of_what_was_gathered(gathered_bytes, monkeypatch):
    monkeypatch.setattr(gathered, "GATHERED_BYTES", gathered_bytes)
    embeddings, banks = unit(3, 5, 4).requires_grad_(), unit(3, 10, 4, seed=2)
    slots = torch.randint(10, (5, 8), generator=torch.Generator().manual_seed(0))
    products = gathered_products(embeddings, banks, slots)
    want = torch.einsum("ibd,jbmd->ijbm", embeddings, banks[:, slots])
    torch.testing.assert_close(products, want)
    got, wanted = (torch.autograd.grad((v**2).sum(), embeddings)[0] for v in (products, want))
    torch.testing.assert_close(got, wanted)
    assert torch.autograd.gradcheck(lambda e: gathered_products(e, banks, slots), embeddings)


def test_nothing_as_large_as_a_gather_is_kept_for_the_backward_pass():
    kept = []
    embeddings, bank = unit(2, 4, 6, dtype=torch.float32).requires_grad_(), a_bank()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        gathered_products(embeddings, bank.slots, slots_for([0, 1, 2, 3]).slots)
    assert max(kept) == 4 * 10, "the indices, and not 4 × 10 × 6 values"


def test_losses_are_in_float32_under_autocast():
    bank, contrast = a_bank(), slots_for([0, 1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = bank.grid(unit(2, 2, 6, dtype=torch.float32), contrast, 0.07).logits
    assert logits.dtype == torch.float32


def test_slots_are_uniform_over_the_same_class_and_over_other_classes():
    image_ids = list(range(10))
    slots, has_positive = slots_for(image_ids, positives=4000, negatives=4000)
    for image, row in zip(image_ids, slots, strict=True):
        same_class = [other for other in image_ids if LABELS[other] == LABELS[image] and other != image]
        others = [other for other in image_ids if LABELS[other] != LABELS[image]]
        assert row[0] == image
        assert has_positive[image].all() == bool(same_class)
        for found, allowed in ((row[1:4001], same_class or others), (row[4001:], others)):
            counts = torch.bincount(found, minlength=10) / 4000
            assert counts.nonzero().flatten().tolist() == allowed
            assert (counts[allowed] - 1 / len(allowed)).abs().max() < 0.05


def test_slots_are_independent_of_the_number_of_workers(monkeypatch):
    from mcl_ray import distributed

    whole = slots_for([5, 1, 8, 3])
    sampler, shares = SlotSampler(LABELS, positives=2, negatives=7), distributed.BatchShards((3, 1))
    parts = []
    for rank, image_ids in enumerate(([5, 1, 8], [3])):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(sampler(torch.tensor(image_ids), torch.Generator().manual_seed(0), shares))
    assert torch.equal(torch.cat([part.slots for part in parts]), whole.slots)


def test_a_bank_starts_uniform_and_from_its_seed():
    bank = MemoryBank(2, 5000, 48, momentum=0.5, generator=torch.Generator().manual_seed(3))
    same = MemoryBank(2, 5000, 48, momentum=0.5, generator=torch.Generator().manual_seed(3))
    bound = (3 / 48) ** 0.5
    assert torch.equal(bank.slots, same.slots)
    assert not torch.equal(bank.slots[0], bank.slots[1])
    assert bank.slots.abs().max() <= bound
    torch.testing.assert_close(bank.slots.std(), torch.tensor(bound / 3**0.5), rtol=0.01, atol=0)


def test_of_an_image_that_occurs_twice_the_first_embedding_counts():
    bank, embeddings = a_bank(momentum=0.25), unit(2, 3, 6, dtype=torch.float32)
    before = bank.slots.clone()
    bank.update(embeddings, torch.tensor([4, 7, 4]))
    want = F.normalize(0.25 * before[:, [4, 7]] + 0.75 * embeddings[:, :2], dim=-1)
    torch.testing.assert_close(bank.slots[:, [4, 7]], want)
    untouched = [0, 1, 2, 3, 5, 6, 8, 9]
    assert torch.equal(bank.slots[:, untouched], before[:, untouched])
