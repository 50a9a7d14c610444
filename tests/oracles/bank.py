"""The four terms from a memory bank as loops that anyone can check by eye."""

from __future__ import annotations

import torch
from torch import Tensor

from mcl_ray.contrast.bank import ContrastSlots
from tests.oracles.contrast import kl, log_softmax


def bank_terms(
    embeddings: Tensor, banks: Tensor, contrast: ContrastSlots, tau: float, temperature: float
) -> dict[str, Tensor]:
    peers, anchors = range(len(embeddings)), range(embeddings.shape[1])
    pairs = [(i, j) for i in peers for j in peers if i != j]

    def row(i: int, j: int, a: int) -> list[Tensor]:
        slots = contrast.slots[a] if i != j else contrast.slots[a, 1:]
        return [(embeddings[i, a] * banks[j, slot]).sum() / tau for slot in slots]

    def hard(i: int, j: int) -> Tensor:
        losses = []
        for a in anchors:
            same_class = contrast.has_positive[a].tolist()
            positives = [
                n for n, is_positive in enumerate([True, *same_class] if i != j else same_class) if is_positive
            ]
            if positives:
                log_p = log_softmax(row(i, j, a))
                losses.append(-torch.stack([log_p[n] for n in positives]).mean())
        return torch.stack(losses).mean()

    def soft(student: tuple[int, int], teacher: tuple[int, int]) -> Tensor:
        return (
            temperature**2 * torch.stack([kl(row(*student, a), row(*teacher, a), temperature) for a in anchors]).mean()
        )

    zero = embeddings.sum() * 0
    return {
        "vcl": sum((hard(i, i) for i in peers), zero),
        "icl": sum((hard(i, j) for i, j in pairs), zero),
        "soft_vcl": sum((soft((i, i), (j, j)) for i, j in pairs), zero),
        "soft_icl": sum((soft((i, j), (j, i)) for i, j in pairs), zero),
    }
