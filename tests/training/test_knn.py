"""Nearest neighbours beside a loop that anyone can follow, and the same for any number of workers."""

import math

import pytest
import torch
from torch.nn import functional as F

from mcl_ray.cohort import build_cohort
from mcl_ray.config.spec import CohortSpec
from mcl_ray.training.image_loader import ImageBatch, indices_of
from mcl_ray.training.knn import NearestNeighbours
from tests.support.workers import some_workers

CLASSES = 4


class Pictures:
    """Images of noise with the classes 0, 1, 2, 3, 0 …; `broken` ones do not decode."""

    def __init__(self, count=30, broken=(), seed=0):
        self.images = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
        self.labels, self.broken = torch.arange(count) % CLASSES, set(broken)

    def __len__(self):
        return len(self.labels)

    def scoring(self, batches):
        for batch in batches:
            rows = [row for row in indices_of(batch, len(self)) if row not in self.broken]
            yield ImageBatch(self.images[rows], torch.tensor(rows))


def a_cohort():
    torch.manual_seed(0)
    return build_cohort(CohortSpec(networks=("resnet8", "resnet20"), size=2, embedding_dim=4), 0, 1).eval()


def votes_of(train, queries, **fields):
    options = {"neighbours": 5, "num_images": 100, "batch_size": 7, "bf16": False} | fields
    with torch.inference_mode():
        return NearestNeighbours(a_cohort(), train, CLASSES, **options)(queries).clone()


def by_hand(train, rows, queries, neighbours):
    with torch.no_grad():
        known, asked = (a_cohort().features(images) for images in (train.images[rows], queries))
    votes = torch.zeros(2, len(queries), CLASSES)
    for peer in range(2):
        for query in range(len(queries)):
            near = sorted(
                (
                    (float(F.cosine_similarity(asked[peer][query], features, dim=0)), int(train.labels[row]))
                    for row, features in zip(rows, known[peer], strict=True)
                ),
                reverse=True,
            )[:neighbours]
            total = sum(math.exp(similarity / 0.07) for similarity, _ in near)
            for similarity, label in near:
                votes[peer, query, label] += math.exp(similarity / 0.07) / total
    return votes


@pytest.mark.parametrize("batch_size", [1, 7, 100])
@pytest.mark.parametrize("neighbours", [1, 5, 1000])
def test_votes_are_those_of_a_loop(batch_size, neighbours):
    train, queries = Pictures(), Pictures(6, seed=1).images
    votes = votes_of(train, queries, batch_size=batch_size, neighbours=neighbours)
    torch.testing.assert_close(votes, by_hand(train, range(30), queries, neighbours), rtol=1e-4, atol=1e-5)


def test_images_that_do_not_decode_have_no_vote():
    train, queries = Pictures(broken=[0, 13]), Pictures(6, seed=1).images
    rows = [row for row in range(30) if row not in (0, 13)]
    torch.testing.assert_close(votes_of(train, queries), by_hand(train, rows, queries, 5), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("num_images", "rows"), [(9, [0, 3, 6, 10, 13, 16, 20, 23, 26]), (29, range(29)), (30, range(30)), (1, [0])]
)
def test_of_more_images_exactly_those_asked_for_are_used_evenly(num_images, rows):
    train, queries = Pictures(), Pictures(6, seed=1).images
    wanted = by_hand(train, rows, queries, 5)
    torch.testing.assert_close(votes_of(train, queries, num_images=num_images), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_votes(tmp_path):
    train, queries = Pictures(broken=[2]), Pictures(6, seed=1).images
    alone, fewer = votes_of(train, queries), votes_of(train, queries, num_images=9)
    with some_workers(tmp_path, 3) as group:
        for votes in group.run(votes_of, train, queries):
            torch.testing.assert_close(votes, alone, rtol=1e-5, atol=1e-6)
        assert len(fewer) == 2
