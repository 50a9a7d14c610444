"""One command, several runs: which field goes where, and what cannot build on what."""

from shutil import rmtree

import pytest

from mcl_ray.config import recipes
from mcl_ray.config.overrides import replace
from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import CheckpointError, SpecError
from mcl_ray.pipeline import found_at, stages
from mcl_ray.results.store import read_runs
from tests.support.commands import run_forked, snapshot
from tests.support.forked import TRAINING
from tests.support.pictures import write_folder


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
        ("lincls+lincls", [], "the names of stages must differ"),
        ("moco+lincls", ["lincls.alhpa=1"], "unknown field 'alhpa'"),
        (
            "moco+lincls",
            ["lincls.linear.backbone=random"],
            "of the stage before, so that linear.backbone cannot be given",
        ),
        (
            "moco+lincls",
            ["lincls.networks=resnet20"],
            "of the stage before, so that cohort.networks cannot be given",
        ),
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
    with pytest.raises(CheckpointError, match="but neither nowhere nor"):
        found_at(tmp_path.relative_to(tmp_path) / "nowhere", tmp_path)


TINY = ("networks=resnet8", "image_size=16", "batch.size=6", "queue.keys=12", "schedule.kind=cosine", "milestones=[]")


@pytest.mark.slow
def test_one_command_trains_then_classifies_and_goes_on_where_it_was(tmp_path):
    write_folder(tmp_path / "pictures")
    words = (
        *("train", "moco+lincls", *TINY, "epochs=1", "lincls.epochs=2", "lincls.schedule.kind=cosine"),
        *("lincls.milestones=[]", "lincls.lr=0.5", "--data", "pictures", "--readers", "0"),
    )
    seen = run_forked(tmp_path, *words, modules=TRAINING)
    assert seen.code == 0, seen.stderr
    runs = {run["recipe"]: run for run in read_runs(tmp_path / "results").to_pylist()}
    assert {recipe: (run["state"], run["epochs_done"]) for recipe, run in runs.items()} == {
        "moco": ("finished", 1),
        "lincls": ("finished", 2),
    }
    spec = RunSpec.model_validate_json(runs["lincls"]["spec"])
    assert spec.pretraining == RunSpec.model_validate_json(runs["moco"]["spec"])
    title = f"{runs['moco']['run_id']} + {runs['lincls']['run_id']}"
    assert title in seen.stdout
    table = seen.stdout[seen.stdout.index(title) :]
    assert "moco, test, kNN top-1 (%)" in table
    assert "lincls, test, top-1 (%)" in table

    again = run_forked(tmp_path, *words, "--resume", modules=TRAINING)
    assert again.code == 0, again.stderr
    assert again.stdout.count("nothing left to do") == 2
    (run,) = (tmp_path / "results" / "runs").glob("lincls-*")
    rmtree(run)
    rest = run_forked(tmp_path, *words, "--resume", modules=TRAINING)
    assert rest.code == 0, rest.stderr
    assert rest.stdout.count("nothing left to do") == 1
    assert {run["recipe"] for run in read_runs(tmp_path / "results").to_pylist()} == {"moco", "lincls"}

    single = (
        "train",
        "lincls",
        "--from",
        runs["moco"]["run_id"],
        "image_size=16",
        "batch.size=6",
        "--data",
        "pictures",
    )
    planned = run_forked(tmp_path, *single, "--dry-run", modules=TRAINING)
    assert planned.code == 0, planned.stderr
    assert spec.linear.backbone in planned.stdout

    before = snapshot(tmp_path / "results")
    for asked in ((), ("--dry-run",)):
        refused = run_forked(tmp_path, *single, "networks=resnet20", *asked, modules=TRAINING)
        assert (refused.code, refused.stdout) == (2, ""), refused.stderr
        assert "the networks must be those of the spec's cohort, resnet20 + resnet20" in refused.stderr
        assert snapshot(tmp_path / "results") == before
