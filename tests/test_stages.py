"""One command, several runs: which field goes where, and what cannot build on what."""

import pytest

from mcl_ray import recipes
from mcl_ray.errors import CheckpointError, SpecError
from mcl_ray.overrides import replace
from mcl_ray.stages import found_at, stages


def test_one_name_is_one_stage():
    (stage,) = stages("digits", ["alpha=0.3"])
    spec, backbone = stage.resolved(None)
    assert spec == replace(recipes.digits(), {"losses.alpha": 0.3})
    assert backbone is None


def test_fields_are_of_the_first_stage_and_those_of_the_images_of_all():
    given = [
        "alpha=0.5",
        "image_size=32",
        "seed=3",
        "lincls.lr=1",
        "lincls.batch.size=8",
        "moco.epochs=2",
        "batch.size=64",
    ]
    first, second = stages("moco+lincls", [*given, "moco.schedule.kind=cosine", "moco.milestones=[]"])
    one = first.expected(None, None)
    assert (one.losses.alpha, one.data.image_size, one.seed, one.schedule.epochs) == (0.5, 32, 3, 2)
    assert one.batch.size == 64
    other = second.expected(None, replace(one, {"cohort.size": 3}).cohort)
    assert (other.losses.alpha, other.data.image_size, other.seed, other.schedule.epochs) == (0.0, 32, 3, 100)
    assert (other.optimizer.lr, other.batch.size) == (1.0, 8)
    assert (other.cohort.size, other.cohort.head) == (3, "linear")


@pytest.mark.parametrize(
    ("name", "overrides", "rule"),
    [
        ("moco+lincl", [], "unknown recipe 'lincl'; did you mean 'lincls'"),
        ("moco+cifar", [], "freezes the networks of another run, but cifar trains its own"),
        ("lincls+lincls", [], "each stage has a name of its own"),
        ("moco+lincls", ["lincls.alhpa=1"], "unknown field 'alhpa'"),
        ("moco+lincls", ["lincls.linear.backbone=random"], "linear.backbone is what the other run or checkpoint is"),
    ],
)
def test_what_cannot_follow_what(name, overrides, rule):
    with pytest.raises(SpecError, match=rule):
        [stage.expected(None, None) for stage in stages(name, overrides)]


def test_linear_classification_needs_networks(tmp_path):
    (stage,) = stages("lincls", [])
    with pytest.raises(SpecError, match="needs --from with a run or a checkpoint, or linear.backbone=random"):
        stage.resolved(None)
    (stage,) = stages("lincls", ["linear.backbone=random"])
    assert stage.resolved(None)[0].linear.backbone == "random"
    (stage,) = stages("digits", [])
    with pytest.raises(SpecError, match="but digits trains its own"):
        stage.resolved(tmp_path)
    with pytest.raises(CheckpointError, match="there is neither nowhere nor"):
        found_at(tmp_path.relative_to(tmp_path) / "nowhere", tmp_path)
