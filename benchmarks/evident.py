"""The straightforward implementation of a training step: a baseline for speed, and a test oracle for the numbers.

Peers one after another, losses pair by pair, float32, contiguous, every value copied to the host at every step.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mcl_ray.cohort import Cohort
from mcl_ray.config.spec import LossSpec
from mcl_ray.contrast.bank import MemoryBank, SlotSampler
from mcl_ray.losses.grid import ContrastGrid
from mcl_ray.losses.terms import contrastive_terms
from mcl_ray.methods.method import Batch


def step(
    cohort: Cohort, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, weights: LossSpec
) -> dict[str, float]:
    """Take one step, and return the unweighted terms and their weighted total, `loss`."""
    logits, embeddings = _forward(cohort, images)
    terms = {"cross_entropy": sum_of([F.cross_entropy(own, labels) for own in logits])}
    return _update(optimizer, terms | contrastive(embeddings, labels, weights), weights)


def bank_step(
    cohort: Cohort,
    optimizer: torch.optim.Optimizer,
    bank: MemoryBank,
    sampler: SlotSampler,
    batch: Batch,
    weights: LossSpec,
    generator: torch.Generator,
) -> dict[str, float]:
    """Take one step with contrast from memory banks, gathered once for every pair of peers; as `step` otherwise."""
    logits, embeddings = _forward(cohort, batch.images)
    terms = {"cross_entropy": sum_of([F.cross_entropy(own, batch.labels) for own in logits])}
    slots = sampler(batch.image_ids, generator, batch.shares).slots
    terms |= contrastive_terms(bank_grid(bank, torch.stack(embeddings), slots, weights.tau), weights)
    figures = _update(optimizer, terms, weights)
    bank.update(torch.stack(embeddings).detach(), batch.image_ids)
    return figures


def bank_grid(bank: MemoryBank, embeddings: Tensor, slots: Tensor, tau: float) -> ContrastGrid:
    """Return the contrast grid with a gather for every pair of peers, which autograd saves for the backward pass.

    Args:
        bank: Memory banks of N peers.
        embeddings: [N, B, D].
        slots: [B, M], of which the first are the images' own, and the second positives.
        tau: Temperature.
    """
    peers = range(len(embeddings))

    def entry(i: int, j: int) -> Tensor:
        gathered_BMD = bank.slots[j][slots]
        return (gathered_BMD @ embeddings[i, :, :, None]).squeeze(-1) / tau

    logits = torch.stack([torch.stack([entry(i, j) for j in peers]) for i in peers])
    across = ~torch.eye(len(peers), dtype=torch.bool, device=logits.device)[:, :, None, None]
    leading = torch.arange(2, device=logits.device) > 0
    allowed = (across | leading).expand(-1, -1, logits.shape[2], -1)
    return ContrastGrid(logits=logits, positives=allowed, valid=allowed, own_slots=1)


def _update(optimizer: torch.optim.Optimizer, terms: dict[str, Tensor], weights: LossSpec) -> dict[str, float]:
    scale = {"vcl": weights.alpha, "icl": weights.beta, "soft_vcl": weights.gamma, "soft_icl": weights.lam}
    loss = sum_of([scale.get(name, 1.0) * value for name, value in terms.items()])
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
    optimizer.step()
    return {name: value.item() for name, value in (terms | {"loss": loss}).items()}


def _forward(cohort: Cohort, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    logits, embeddings = [], []
    shared = cohort.stems[0](images) if cohort.shares_stem else None
    for i in range(cohort.num_peers):
        maps = cohort.stems[i](images) if shared is None else shared
        features = cohort.branches[i](maps)
        logits.append(cohort.classifiers[i](features))
        embeddings.append(cohort.heads[i](features))
    return logits, embeddings


def contrastive(embeddings: list[Tensor], labels: Tensor, weights: LossSpec) -> dict[str, Tensor]:
    """Return the unweighted terms of embeddings, [N] of [B, D], each computed pair by pair."""
    peers = range(len(embeddings))
    pairs = [(i, j) for i in peers for j in peers if i != j]
    temperature = weights.temperature

    def similarities(i: int, j: int) -> Tensor:
        return embeddings[i] @ embeddings[j].T / weights.tau

    return {
        "vcl": sum_of([_hard(similarities(i, i), labels) for i in peers]),
        "icl": sum_of([_hard(similarities(i, j), labels) for i, j in pairs]),
        "soft_vcl": sum_of([_kl(similarities(i, i), similarities(j, j), temperature) for i, j in pairs]),
        "soft_icl": sum_of([_kl(similarities(i, j), similarities(j, i), temperature) for i, j in pairs]),
    }


def _hard(similarities: Tensor, labels: Tensor) -> Tensor:
    others = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positives = (labels[:, None] == labels[None, :]) & others
    log_p = similarities - similarities.masked_fill(~others, -torch.inf).logsumexp(1, keepdim=True)
    return -((log_p * positives).sum(1) / positives.sum(1)).mean()


def _kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    target = (teacher.detach() / temperature).softmax(1)
    return temperature**2 * F.kl_div((student / temperature).log_softmax(1), target, reduction="batchmean")


def sum_of(values: list[Tensor]) -> Tensor:
    """Return the sum of values as a tensor."""
    return torch.stack(values).sum()
