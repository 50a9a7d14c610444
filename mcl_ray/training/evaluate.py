"""Scoring a cohort: each peer, their mean, the best of them, and their ensemble. N peers, n images, C classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mcl_ray import distributed
from mcl_ray.cohort import Cohort
from mcl_ray.config.spec import RunSpec
from mcl_ray.results.store import EpochRow
from mcl_ray.training.image_loader import ImageLoader
from mcl_ray.training.knn import NearestNeighbours

Scores = dict[tuple[str, str], float]
"""(metric, member) → percent."""
Vote = Callable[[Tensor], Tensor]
"""What each peer says of images [B, K, H, W]: more for the likelier class, [N, B, C]."""


@torch.inference_mode()
def score(
    spec: RunSpec, cohort: Cohort, train: ImageLoader, splits: Mapping[str, ImageLoader], num_classes: int
) -> list[EpochRow]:
    """Top-1 and top-5 of every split, as the method is scored; every worker has to call this, and gets them all.

    Peers that were trained without labels are scored by `NearestNeighbours`, and these figures are `knn_top1` and
    `knn_top5`.
    """
    evaluation, bf16 = spec.evaluation, spec.compute.precision == "bf16"
    if not splits:
        return []
    cohort.eval()
    vote, kind = _by_classifiers(cohort, bf16=bf16), ""
    if not spec.is_supervised:
        vote, kind = (
            NearestNeighbours(
                cohort,
                train,
                num_classes,
                neighbours=evaluation.neighbours,
                num_images=evaluation.neighbour_images,
                batch_size=evaluation.batch_size,
                bf16=bf16,
            ),
            "knn_",
        )
    rows = [
        EpochRow(member, split, kind + metric, value)
        for split, images in splits.items()
        for (metric, member), value in evaluate(vote, images, evaluation.batch_size, cohort.num_peers).items()
    ]
    cohort.train()
    return rows


def _by_classifiers(cohort: Cohort, *, bf16: bool) -> Vote:
    def vote(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bf16):
            return cohort.logits(images)

    return vote


@torch.inference_mode()
def evaluate(vote: Vote, images: ImageLoader, batch_size: int, num_peers: int) -> Scores:
    """Top-1 and top-5 in percent of `peer0`… , `mean`, `best` (the peer with the highest top-1) and `ensemble`.

    The ensemble is the mean of the peers' votes. With fewer than five classes, top-5 counts them all. Several workers
    take whole batches in turn, those that one would score, so that the scores are the same to the bit; every worker
    has to call this, and gets them all.
    """
    device, seen = images.labels.device, 0
    correct = torch.zeros(num_peers + 1, 2, device=device)
    starts = range(distributed.rank() * batch_size, len(images), distributed.world_size() * batch_size)
    for fed in images.scoring([slice(start, start + batch_size) for start in starts]):
        votes_NBC = vote(fed.images).float()
        voters = torch.cat([votes_NBC, votes_NBC.mean(0, keepdim=True)])
        correct += count_correct(voters, images.labels[fed.indices])
        seen += len(fed.indices)
    whole = distributed.all_reduce_sum(torch.tensor(seen, dtype=torch.float64, device=device))
    percent = (100 * distributed.all_reduce_sum(correct) / whole.clamp(min=1).float()).tolist()
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
