"""Logit distillation from the mean of all peers' logits. N peers, B images, C classes."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Learners = Literal["all", "reference", "last"]


def logit_distillation(logits_NBC: Tensor, temperature: float, learners: Learners) -> Tensor:
    """Compute the distillation loss of the learning peers from the mean of all peers' logits.

    Knowledge distillation (Hinton et al., 2015, arXiv 1503.02531) as in the code of Yang et al., AAAI 2022 (arXiv
    2104.12565), with z_i the logits of peer i and z̄ their mean over all peers:

        T²/B · Σ_i Σ_b KL(softmax(z̄[b] / T) ‖ softmax(z_i[b] / T)),   i over the learning peers

    Args:
        logits_NBC: the peers' logits.
        temperature: T.
        learners: `all`: every peer learns, the teacher is detached. `reference`: the published CIFAR code, in which
            both of two peers learn, otherwise only the last; the teacher is detached. `last`: the published ImageNet
            code, in which only the last peer learns and the teacher is not detached.

    Shape:
        logits_NBC: [N, B, C]; returns a scalar, float32.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[[0.0, 2.0]], [[2.0, 0.0]]])  # 2 peers, 1 image, 2 classes
        >>> round(logit_distillation(logits, temperature=1.0, learners="all").item(), 4)
        0.8676
    """
    teacher_source = logits_NBC if learners == "last" else logits_NBC.detach()
    log_q = (teacher_source.float().mean(0) / temperature).log_softmax(-1)
    all_learn = learners == "all" or (learners == "reference" and len(logits_NBC) == 2)
    students = logits_NBC if all_learn else logits_NBC[-1:]
    log_p = (students.float() / temperature).log_softmax(-1)
    divergence = (log_q.exp() * (log_q - log_p)).sum()  # torch.vmap has no rule for F.kl_div
    return temperature**2 / logits_NBC.shape[1] * divergence
