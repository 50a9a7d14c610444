"""Selection of the networks of a run to export: a peer by its number, the best one, or all."""

import pytest

from mcl_ray.config import recipes
from mcl_ray.config.overrides import replace
from mcl_ray.errors import SpecError, StoreError
from mcl_ray.results.store import EpochRow, RunWriter, read_epochs
from mcl_ray.transfer.member import choose


def epochs(tmp_path, *figures):
    """Return the epochs of a run of two peers, from the top-1 of each peer on one split for each epoch."""
    with RunWriter.create(tmp_path, recipes.digits()) as writer:
        for epoch, (split, *top1) in enumerate(figures, start=1):
            writer.record_epoch(epoch, [EpochRow(f"peer{i}", split, "top1", value) for i, value in enumerate(top1)])
    return read_epochs(tmp_path)


@pytest.mark.parametrize(
    ("figures", "peer", "split"),
    [
        ([("test", 90.0, 10.0), ("test", 50.0, 60.0)], 1, "test"),
        ([("test", 50.0, 50.0)], 0, "test"),
        ([("test", 10.0, 20.0), ("validation", 70.0, 60.0)], 0, "validation"),
        ([("validation", 70.0, 60.0), ("test", 10.0, 20.0)], 0, "validation"),
        ([("validation", 10.0, 20.0), ("validation", 70.0, 60.0)], 0, "validation"),
        ([("validation", float("nan"), 20.0)], 1, "validation"),
    ],
)
def test_the_best_peer_is_the_best_at_the_last_epoch_on_validation_if_there_is_one(figures, peer, split, tmp_path):
    member = choose("best", recipes.digits(), epochs(tmp_path, *figures))
    assert (member.peers, member.chosen_on) == ((peer,), split)
    assert f"the highest {split} top-1" in member.reason
    assert ("no validation split" in member.reason) == (split == "test")
    assert choose("1", recipes.digits(), epochs(tmp_path / "again", *figures)).reason is None


def test_a_peer_without_labels_is_chosen_by_nearest_neighbours(tmp_path):
    with RunWriter.create(tmp_path, recipes.moco()) as writer:
        writer.record_epoch(1, [EpochRow(f"peer{i}", "test", "knn_top1", 50.0 + i) for i in range(2)])
    member = choose("best", recipes.moco(), read_epochs(tmp_path))
    assert (member.name, "the highest test kNN top-1" in member.reason) == ("peer1", True)


def test_a_network_alone_is_not_chosen(tmp_path):
    alone = replace(recipes.digits(), {"cohort.size": 1})
    assert choose("best", alone, epochs(tmp_path, ("test", 50.0))).reason is None


def test_without_figures_no_peer_is_best(tmp_path):
    with pytest.raises(StoreError, match="name a peer from 0 to 1"):
        choose("best", recipes.digits(), epochs(tmp_path))
    with pytest.raises(SpecError, match="from 0 to 1, but got '2'"):
        choose("2", recipes.digits(), epochs(tmp_path))


def test_the_mean_of_features_cannot_be_exported(tmp_path):
    spec = replace(recipes.lincls(), {"linear.backbone": "random", "linear.features": "mean"})
    with pytest.raises(SpecError, match="but got linear.features=mean, which cannot be exported"):
        choose("0", spec, epochs(tmp_path))
