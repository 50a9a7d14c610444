"""Scoring a cohort: each peer, their mean, the best of them, and their ensemble. N peers, n images, C classes."""

from __future__ import annotations

import torch
from torch import Tensor

from mcl_ray import distributed
from mcl_ray.cohort import Cohort
from mcl_ray.training.images import Feed

Scores = dict[tuple[str, str], float]
"""(metric, member) → percent."""


@torch.inference_mode()
def evaluate(cohort: Cohort, images: Feed, batch_size: int, *, bf16: bool = False) -> Scores:
    """Top-1 and top-5 in percent of `peer0`… , `mean`, `best` (the peer with the highest top-1) and `ensemble`.

    The ensemble is the mean of the peers' logits. With fewer than five classes, top-5 counts them all. Several workers
    take whole batches in turn, those that one would score, so that the scores are the same to the bit; every worker
    has to call this, and gets them all.
    """
    cohort.eval()
    device, seen = images.labels.device, 0
    correct = torch.zeros(cohort.num_peers + 1, 2, device=device)
    starts = range(distributed.rank() * batch_size, len(images), distributed.world_size() * batch_size)
    for fed in images.scoring([slice(start, start + batch_size) for start in starts]):
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            logits_NBC = cohort.logits(fed.images).float()
        voters = torch.cat([logits_NBC, logits_NBC.mean(0, keepdim=True)])
        correct += count_correct(voters, images.labels[fed.indices])
        seen += len(fed.indices)
    whole = distributed.summed(torch.tensor(seen, dtype=torch.float64, device=device))
    percent = (100 * distributed.summed(correct) / whole.clamp(min=1).float()).tolist()
    cohort.train()
    return _by_member(percent)


def count_correct(logits_KBC: Tensor, labels_B: Tensor) -> Tensor:
    """How many of B images each of K voters has right: [K, 2], within its first and its first five guesses."""
    top = logits_KBC.topk(min(5, logits_KBC.shape[-1]), dim=-1).indices
    hits = top == labels_B[None, :, None]
    return torch.stack([hits[..., 0].sum(-1), hits.any(-1).sum(-1)], dim=-1).float()


def _by_member(percent: list[list[float]]) -> Scores:
    *peers, ensemble = percent
    best = max(peers)
    mean = [sum(column) / len(peers) for column in zip(*peers, strict=True)]
    members = {f"peer{i}": pair for i, pair in enumerate(peers)} | {"mean": mean, "best": best, "ensemble": ensemble}
    return {(m, who): pair[k] for k, m in enumerate(("top1", "top5")) for who, pair in members.items()}
