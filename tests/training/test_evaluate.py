import pytest
import torch

from mcl_ray.cohort import build_cohort
from mcl_ray.config.spec import CohortSpec
from mcl_ray.training.evaluate import _by_classifiers, count_agreeing, count_correct, evaluate
from mcl_ray.training.image_loader import ImageBatch


def test_hits_are_counted_as_a_loop_counts_them():
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(3, 40, 12, generator=generator), torch.randint(12, (40,), generator=generator)
    counted = count_correct(logits, labels)
    for peer in range(3):
        order = logits[peer].argsort(dim=-1, descending=True)
        for column, k in enumerate((1, 5)):
            assert counted[peer, column] == sum(int(labels[b]) in order[b, :k].tolist() for b in range(40))


@pytest.mark.parametrize("num_peers", [1, 2, 4])
def test_agreement_is_counted_as_a_loop_counts_it(num_peers):
    logits = torch.randn(num_peers, 30, 3, generator=torch.Generator().manual_seed(0))
    classes = logits.argmax(-1).tolist()
    pairs = [(first, second) for second in range(num_peers) for first in range(second)]
    agreeing = sum(classes[first][image] == classes[second][image] for first, second in pairs for image in range(30))
    assert count_agreeing(logits) == agreeing
    scores = evaluate(fixed(logits), FixedImages(torch.zeros(30, dtype=torch.long)), 7, num_peers=num_peers)
    expected = pytest.approx(100 * agreeing / (30 * len(pairs))) if pairs else None
    assert scores.get(("agreement", "cohort")) == expected


def test_top5_of_three_classes_is_everything():
    assert count_correct(torch.randn(1, 4, 3), torch.zeros(4, dtype=torch.long))[0, 1] == 4


def test_a_class_without_a_vote_is_not_among_the_top5():
    """Of 100 classes, two have votes: the other three places are no answer, whichever classes stand there."""
    votes = torch.zeros(1, 100, 100)
    votes[..., 7], votes[..., 9] = 0.7, 0.3
    counted = count_correct(votes, torch.arange(100), only_with_votes=True)
    assert counted.tolist() == [[1, 2]]
    assert count_correct(votes, torch.arange(100))[0, 1] > 2


def test_logits_are_scored_in_fp32_though_networks_run_in_bf16():
    """100 classes whose weights differ by a 4,000th, which bf16 cannot tell apart: the last has the highest logit."""
    cohort = build_cohort(CohortSpec(networks=("resnet8",), size=1, embedding_dim=4), 100, 1).eval()
    with torch.no_grad():
        cohort.classifiers[0].weight.zero_()
        cohort.classifiers[0].bias.copy_(1 + torch.arange(100) / 4000)
        logits = _by_classifiers(cohort, bf16=True)(torch.randn(6, 1, 8, 8))
    assert logits.dtype == torch.float32
    assert count_correct(logits, torch.full((6,), 99))[0].tolist() == [6, 6]


def fixed(logits):
    """Peers whose logits are given; `images` are their row numbers."""
    return lambda images: logits[:, images]


class FixedImages:
    def __init__(self, labels, unreadable=-1):
        self.labels, self.unreadable = labels, unreadable

    def __len__(self):
        return len(self.labels)

    def scoring(self, batches):
        for batch in batches:
            rows = torch.arange(len(self.labels))[batch]
            rows = rows[rows != self.unreadable]
            yield ImageBatch(rows, rows)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_members_and_batches_do_not_change_the_figures(batch_size):
    logits = torch.tensor([[[3.0, 0], [3, 0], [3, 0], [3, 0]], [[0, 2.0], [4, 0], [0, 2], [0, 2]]])
    scores = evaluate(fixed(logits), FixedImages(torch.tensor([0, 0, 0, 1])), batch_size, num_peers=2)
    top1 = {member: value for (metric, member), value in scores.items() if metric == "top1"}
    assert top1 == {"peer0": 75.0, "peer1": 50.0, "mean": 62.5, "best": 75.0, "ensemble": 75.0}


def test_an_image_that_is_left_out_is_neither_right_nor_wrong():
    logits = torch.tensor([[[3.0, 0], [3, 0], [3, 0]], [[3, 0], [0, 3], [3, 0]]])
    scores = evaluate(fixed(logits), FixedImages(torch.tensor([0, 0, 1]), unreadable=2), 2, num_peers=2)
    assert (scores["top1", "peer0"], scores["top1", "peer1"]) == (100.0, 50.0)
