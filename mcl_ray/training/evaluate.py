"""Evaluation of a cohort: each peer, their mean, the best peer, their ensemble, and how far peers agree.

N peers, B images of a batch, K voters, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mcl_ray.cohort import Cohort
from mcl_ray.config.spec import RunSpec
from mcl_ray.distributed import Subgroup, all_reduce_sum, all_workers
from mcl_ray.results.store import EpochRow
from mcl_ray.training.image_loader import ImageLoader
from mcl_ray.training.knn import NearestNeighbours

Scores = dict[tuple[str, str], float]
"""(metric, member) → percent."""
Vote = Callable[[Tensor], Tensor]
"""Images [B, channels, H, W] → scores of the classes by each peer [N, B, C], higher for the likelier class."""


@torch.inference_mode()
def score(
    spec: RunSpec,
    cohort: Cohort,
    train: ImageLoader,
    splits: Mapping[str, ImageLoader],
    num_classes: int,
    workers: Subgroup | None = None,
) -> list[EpochRow]:
    """Compute top-1 and top-5 of every split by the evaluation of the run's method.

    Every worker must call this function, and receives all results. Peers without classifiers are evaluated by
    `NearestNeighbours`; their metrics are `knn_top1` and `knn_top5`.

    Args:
        spec: the run.
        cohort: its cohort; returns to training mode at the end.
        train: training images, for nearest neighbours.
        splits: the splits to evaluate, by name.
        num_classes: C.
        workers: workers with the same peers, which share the images; None: all.
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
                workers=workers,
            ),
            "knn_",
        )
    rows = [
        EpochRow(member, split, kind + metric, value)
        for split, images in splits.items()
        for (metric, member), value in evaluate(
            vote, images, evaluation.batch_size, cohort.num_peers, only_with_votes=bool(kind), workers=workers
        ).items()
    ]
    cohort.train()
    return rows


def _by_classifiers(cohort: Cohort, *, bf16: bool) -> Vote:
    def vote(images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bf16):
            features_NBF = cohort.features(images)
        # In bf16 many logits would be equal, and the order of classes would decide.
        return cohort.classify([features_BF.float() for features_BF in features_NBF])

    return vote


@torch.inference_mode()
def evaluate(
    vote: Vote,
    images: ImageLoader,
    batch_size: int,
    num_peers: int,
    *,
    only_with_votes: bool = False,
    workers: Subgroup | None = None,
) -> Scores:
    """Compute top-1 and top-5 in percent of `peer0`, …, `mean`, `best` (the highest top-1) and `ensemble`.

    The ensemble is the mean of the peers' votes. `agreement` of the `cohort` is the percentage of images to which two
    peers give the same class, as the mean over all pairs of peers; a single peer has none. With fewer than five
    classes, top-5 includes all of them. Several workers take turns at the batches of a single worker, so that the
    results are the same to the bit; every worker must call this function, and receives all results.

    Args:
        vote: the peers' scores of the classes.
        images: the split.
        batch_size: B.
        num_peers: N.
        only_with_votes: whether a score of zero means that a class has no vote, and is not among the top 5.
        workers: workers with the same peers, which take turns; None: all.
    """
    workers = workers or all_workers()
    device, count = images.labels.device, 0
    correct, agreeing = torch.zeros(num_peers + 1, 2, device=device), torch.zeros((), device=device)
    starts = range(workers.rank * batch_size, len(images), workers.size * batch_size)
    for batch in images.scoring([slice(start, start + batch_size) for start in starts]):
        votes_NBC = vote(batch.images).float()
        voters = torch.cat([votes_NBC, votes_NBC.mean(0, keepdim=True)])
        correct += count_correct(voters, images.labels[batch.indices], only_with_votes=only_with_votes)
        agreeing += count_agreeing(votes_NBC)
        count += len(batch.indices)
    whole = all_reduce_sum(torch.tensor(count, dtype=torch.float64, device=device), workers)
    percent = (100 * all_reduce_sum(correct, workers) / whole.clamp(min=1).float()).tolist()
    if num_peers == 1:
        return _by_member(percent)
    num_pairs = num_peers * (num_peers - 1) / 2
    agreement = 100 * all_reduce_sum(agreeing, workers) / (whole.clamp(min=1).float() * num_pairs)
    return _by_member(percent) | {("agreement", "cohort"): agreement.item()}


def count_correct(logits_KBC: Tensor, labels_B: Tensor, *, only_with_votes: bool = False) -> Tensor:
    """Count the images that each of K voters classifies correctly by its top-1 and its top-5 classes.

    With `only_with_votes`, classes whose score is zero are not among them.

    Shape:
        logits_KBC: [K, B, C]; labels_B: [B] int64; returns [K, 2] float32.
    """
    top = logits_KBC.topk(min(5, logits_KBC.shape[-1]), dim=-1)
    hits = top.indices == labels_B[None, :, None]
    if only_with_votes:
        hits &= top.values > 0
    return torch.stack([hits[..., 0].sum(-1), hits.any(-1).sum(-1)], dim=-1).float()


def count_agreeing(logits_NBC: Tensor) -> Tensor:
    """Count over all pairs of N peers the images to which both give the same top-1 class.

    Shape:
        logits_NBC: [N, B, C]; returns a float32 scalar.
    """
    classes_NB = logits_NBC.argmax(-1)
    same = (classes_NB[:, None] == classes_NB[None]).sum().float()  # each pair twice, and each peer with itself
    return (same - classes_NB.numel()) / 2


def _by_member(percent: list[list[float]]) -> Scores:
    *peers, ensemble = percent
    best = max(peers)
    mean = [sum(column) / len(peers) for column in zip(*peers, strict=True)]
    members = {f"peer{i}": pair for i, pair in enumerate(peers)} | {"mean": mean, "best": best, "ensemble": ensemble}
    return {(m, who): pair[k] for k, m in enumerate(("top1", "top5")) for who, pair in members.items()}
