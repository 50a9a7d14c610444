"""Logit distillation: peers learn from the mean of all peers' logits. N peers, B images, C classes."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

Learners = Literal["all", "reference", "last"]


def logit_distillation(logits_NBC: Tensor, temperature: float, learners: Learners) -> Tensor:
    """Σ over learning peers of KL(student, teacher), the teacher being the mean of the peers' logits, detached.

    `all`: every peer learns. `reference`: the published CIFAR code, where with two peers both learn, otherwise only the
    last does. `last`: the published ImageNet code, where only the last does, and the teacher is not detached.

    Shape:
        logits_NBC: [N, B, C]; returns a scalar, T²/B · Σ.
    """
    taught_by = logits_NBC if learners == "last" else logits_NBC.detach()
    teacher_BC = (taught_by.float().mean(0) / temperature).softmax(-1)
    every_peer = learners == "all" or (learners == "reference" and len(logits_NBC) == 2)
    students = logits_NBC if every_peer else logits_NBC[-1:]
    log_p = (students.float() / temperature).log_softmax(-1)
    divergence: Tensor = F.kl_div(log_p, teacher_BC.expand_as(log_p), reduction="sum")
    return temperature**2 / logits_NBC.shape[1] * divergence
