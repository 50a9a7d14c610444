"""Logit distillation: peers learn from the mean of all peers' logits. N peers, B images, C classes."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F


def logit_distillation(logits_NBC: Tensor, temperature: float, learners: Literal["all", "reference"]) -> Tensor:
    """Σ over learning peers of KL(student, teacher), the teacher being the detached mean of the peers' logits.

    `all`: every peer learns. `reference`: the published CIFAR code, where with two peers both learn, otherwise only the
    last does.

    Shape:
        logits_NBC: [N, B, C]; returns a scalar, T²/B · Σ.
    """
    teacher_BC = (logits_NBC.detach().float().mean(0) / temperature).softmax(-1)
    every_peer = learners == "all" or len(logits_NBC) == 2
    students = logits_NBC if every_peer else logits_NBC[-1:]
    log_p = (students.float() / temperature).log_softmax(-1)
    divergence: Tensor = F.kl_div(log_p, teacher_BC.expand_as(log_p), reduction="sum")
    return temperature**2 / logits_NBC.shape[1] * divergence
