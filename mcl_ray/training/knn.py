"""k-NN evaluation of networks without classifiers, by the labels of the nearest training images.

N peers, B images, F features, n training images, k neighbours, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mcl_ray.cohort import Cohort
from mcl_ray.distributed import BatchShards, Subgroup, all_reduce_sum, all_workers, gather
from mcl_ray.training.image_loader import ImageLoader

TEMPERATURE = 0.07


class NearestNeighbours:
    """Votes of the k nearest training images, by cosine similarity of features.

    A neighbour of similarity s has the weight exp(s / 0.07) (Wu et al., CVPR 2018, arXiv 1805.01978, section 3.4).
    Workers with the same peers share the computation of the training images' features, without augmentation; every
    worker must create an instance.

    Args:
        cohort: the cohort, in evaluation mode.
        train: the training images.
        num_classes: C.
        neighbours: k, at most the number of training images.
        num_images: maximum n; of more training images, exactly n are used, at intervals as equal as can be.
        batch_size: number of images in a batch.
        bf16: whether the networks run under autocast.
        workers: workers with the same peers; None: all.
    """

    def __init__(
        self,
        cohort: Cohort,
        train: ImageLoader,
        num_classes: int,
        *,
        neighbours: int,
        num_images: int,
        batch_size: int,
        bf16: bool,
        workers: Subgroup | None = None,
    ) -> None:
        workers = workers or all_workers()
        self._cohort, self._num_classes, self._bf16 = cohort, num_classes, bf16
        computed = [
            (self._features(batch.images), batch.indices)
            for batch in train.scoring(_own_batches(train, num_images, batch_size, workers))
        ]
        indices_n = torch.cat([indices for _, indices in computed])
        shares = _shares(len(indices_n), indices_n.device, workers)
        indices_n, order_n = gather(indices_n, shares).sort()  # the order of a single worker
        self._labels_n = train.labels[indices_n]
        self._features_NnF = [
            gather(torch.cat(batches), shares)[order_n]
            for batches in zip(*(features for features, _ in computed), strict=True)
        ]
        self._neighbours = min(neighbours, len(self._labels_n))

    def __call__(self, images: Tensor) -> Tensor:
        """Return the votes of each peer's neighbours, [N, B, C], sum 1 over C, for images [B, channels, H, W]."""
        pairs = zip(self._features(images), self._features_NnF, strict=True)
        votes = [self._votes(features_BF @ train_nF.T) for features_BF, train_nF in pairs]
        return self._cohort.of_all_peers(torch.stack(votes))

    def _features(self, images: Tensor) -> list[Tensor]:
        """Return each peer's features of unit length, [N] of [B, F]."""
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self._bf16):
            features_NBF = self._cohort.features(images)
        return [F.normalize(features_BF.float(), dim=1) for features_BF in features_NBF]

    def _votes(self, similarity_Bn: Tensor) -> Tensor:
        nearest = similarity_Bn.topk(self._neighbours, dim=1)
        weight_Bk = (nearest.values / TEMPERATURE).softmax(1)
        votes_BC = similarity_Bn.new_zeros(len(similarity_Bn), self._num_classes)
        return votes_BC.scatter_add_(1, self._labels_n[nearest.indices], weight_Bk)


def _own_batches(train: ImageLoader, num_images: int, batch_size: int, workers: Subgroup) -> list[Sequence[int]]:
    """Return the images of this worker's batches: of the W workers, each takes every W-th image of the subset."""
    num_images = min(max(num_images, workers.size), len(train))  # every worker has one
    subset = [position * len(train) // num_images for position in range(num_images)]
    own = subset[workers.rank :: workers.size]
    return [own[start : start + batch_size] for start in range(0, len(own), batch_size)]


def _shares(own: int, device: torch.device, workers: Subgroup) -> BatchShards:
    """Return the number of images of each worker, which differ if some fail to decode."""
    counts_W = torch.zeros(workers.size, dtype=torch.float64, device=device)
    counts_W[workers.rank] = own
    return BatchShards(tuple(int(count) for count in all_reduce_sum(counts_W, workers).tolist()), workers)
