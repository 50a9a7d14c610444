"""The four terms and logit distillation as loops that anyone can check by eye. Slow on purpose; float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_softmax(values: list[Tensor]) -> list[Tensor]:
    top = max(float(v.detach()) for v in values)
    log_sum = top + torch.log(torch.stack([torch.exp(v - top) for v in values]).sum())
    return [v - log_sum for v in values]


def kl(student: list[Tensor], teacher: list[Tensor], temperature: float) -> Tensor:
    """KL(teacher ‖ student) of one anchor; the teacher is detached."""
    log_s = log_softmax([v / temperature for v in student])
    log_t = log_softmax([v.detach() / temperature for v in teacher])
    return torch.stack([t.exp() * (t - s) for s, t in zip(log_s, log_t, strict=True)]).sum()


def similarity(embeddings: Tensor, i: int, j: int, a: int, b: int, tau: float) -> Tensor:
    return (embeddings[i, a] * embeddings[j, b]).sum() / tau


def hard(embeddings: Tensor, labels: list[int], ids: list[int], i: int, j: int, tau: float) -> Tensor:
    """Entry (i, j): −mean over anchors of mean over positives of log softmax, own image left out."""
    losses = []
    for a in range(len(labels)):
        others = [b for b in range(len(labels)) if ids[b] != ids[a]]
        positives = [n for n, b in enumerate(others) if labels[b] == labels[a]]
        if not positives:
            continue
        log_p = log_softmax([similarity(embeddings, i, j, a, b, tau) for b in others])
        losses.append(-torch.stack([log_p[n] for n in positives]).mean())
    return torch.stack(losses).mean() if losses else embeddings.sum() * 0


def soft(
    embeddings: Tensor, student: tuple[int, int], teacher: tuple[int, int], tau: float, temperature: float
) -> Tensor:
    """KL of two entries of the grid, own image kept: T²/B · Σ over anchors."""
    size = embeddings.shape[1]
    row = lambda entry, a: [similarity(embeddings, *entry, a, b, tau) for b in range(size)]  # noqa: E731
    return temperature**2 * torch.stack([kl(row(student, a), row(teacher, a), temperature) for a in range(size)]).mean()


def in_batch_terms(
    embeddings: Tensor, labels: list[int], ids: list[int], tau: float, temperature: float
) -> dict[str, Tensor]:
    peers = range(len(embeddings))
    pairs = [(i, j) for i in peers for j in peers if i != j]
    zero = embeddings.sum() * 0
    return {
        "vcl": sum((hard(embeddings, labels, ids, i, i, tau) for i in peers), zero),
        "icl": sum((hard(embeddings, labels, ids, i, j, tau) for i, j in pairs), zero),
        "soft_vcl": sum((soft(embeddings, (i, i), (j, j), tau, temperature) for i, j in pairs), zero),
        "soft_icl": sum((soft(embeddings, (i, j), (j, i), tau, temperature) for i, j in pairs), zero),
    }


def logit_distillation(logits: Tensor, temperature: float, learners: list[int]) -> Tensor:
    _, size, _ = logits.shape
    teacher = logits.mean(0)
    total = logits.sum() * 0
    for i in learners:
        for a in range(size):
            total = total + temperature**2 / size * kl(list(logits[i, a]), list(teacher[a]), temperature)
    assert math.isfinite(float(total.detach()))
    return total
