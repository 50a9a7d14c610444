"""Scoring networks that classify nothing: each image gets the class of the training images nearest to it.

N peers, B images, F features, n training images, k neighbours, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mcl_ray import distributed
from mcl_ray.cohort import Cohort
from mcl_ray.training.image_loader import ImageLoader

TEMPERATURE = 0.07


class NearestNeighbours:
    """What the k nearest training images vote for, by cosine similarity of features.

    A neighbour of similarity s counts exp(s / 0.07) (Wu et al., CVPR 2018, arXiv 1805.01978, section 3.4). The
    training images are looked at as they are scored, without augmentation, by all workers together; every worker has to
    make one.

    Args:
        cohort: whose features they are, in evaluation mode.
        train: the training images.
        num_classes: C.
        neighbours: k, or as many as there are.
        num_images: n at most; of more images, every so manieth is looked at.
        batch_size: images looked at together.
        bf16: whether the networks run under autocast.
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
    ) -> None:
        self._cohort, self._num_classes, self._bf16 = cohort, num_classes, bf16
        seen = [
            (self._features(fed.images), fed.indices) for fed in train.scoring(_mine(train, num_images, batch_size))
        ]
        indices_n = torch.cat([indices for _, indices in seen])
        shares = _shares(len(indices_n), indices_n.device)
        indices_n, order_n = distributed.gather(indices_n, shares).sort()  # as one worker would have them
        self._labels_n = train.labels[indices_n]
        self._features_NnF = [
            distributed.gather(torch.cat(of_peer), shares)[order_n]
            for of_peer in zip(*(features for features, _ in seen), strict=True)
        ]
        self._neighbours = min(neighbours, len(self._labels_n))

    def __call__(self, images: Tensor) -> Tensor:
        """The votes of each peer's neighbours, shares that add up to one: [N, B, C] for images [B, K, H, W]."""
        pairs = zip(self._features(images), self._features_NnF, strict=True)
        return torch.stack([self._votes(own_BF @ known_nF.T) for own_BF, known_nF in pairs])

    def _features(self, images: Tensor) -> list[Tensor]:
        """Of unit length, [N] of [B, F]."""
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self._bf16):
            features_NBF = self._cohort.features(images)
        return [F.normalize(features_BF.float(), dim=1) for features_BF in features_NBF]

    def _votes(self, similarity_Bn: Tensor) -> Tensor:
        nearest = similarity_Bn.topk(self._neighbours, dim=1)
        weight_Bk = (nearest.values / TEMPERATURE).softmax(1)
        votes_BC = similarity_Bn.new_zeros(len(similarity_Bn), self._num_classes)
        return votes_BC.scatter_add_(1, self._labels_n[nearest.indices], weight_Bk)


def _mine(train: ImageLoader, num_images: int, batch_size: int) -> list[slice]:
    """This worker's batches: of the images that are looked at, every so manieth is one worker's."""
    workers = distributed.world_size()
    step = workers * max(1, -(-len(train) // max(num_images, workers)))
    first = distributed.rank() * (step // workers)
    return [slice(start, start + step * batch_size, step) for start in range(first, len(train), step * batch_size)]


def _shares(own: int, device: torch.device) -> distributed.BatchShards:
    """How many images each worker has seen: not all decode."""
    counts_W = torch.zeros(distributed.world_size(), dtype=torch.float64, device=device)
    counts_W[distributed.rank()] = own
    return distributed.BatchShards(tuple(int(count) for count in distributed.all_reduce_sum(counts_W).tolist()))
