"""Networks of runs, of checkpoints, and of MoCo's checkpoints; and the check that they stay as they are."""

import shutil

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import parse, replace
from mcl_ray.config.spec import CohortSpec, RunSpec
from mcl_ray.data.source import dataset_for
from mcl_ray.errors import BackboneChangedError, CheckpointError
from mcl_ray.linear_probe import build_backbone
from mcl_ray.pipeline import Stage
from mcl_ray.results.store import RunWriter, SweepWriter, read_epochs, read_runs
from mcl_ray.training import run_state
from mcl_ray.training.backbone import checkpoint_at, find_backbone, load_backbone
from mcl_ray.training.checkpoint import CheckpointFolder
from mcl_ray.training.recorded_run import train_recorded_run
from tests.support.pictures import write_folder

SMALL = ("image_size=16", "batch.size=6", "schedule.kind=cosine", "milestones=[]")


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "pictures")


def train(spec, folder, results, backbone=None, run_id="r"):
    local = Environment(data=folder, results=results, readers=0, threads=1, backbone=backbone)
    writer = RunWriter.begin(results, run_id, spec)
    train_recorded_run(spec, dataset_for(spec, local), local, writer)
    return writer


@pytest.fixture
def pretrained(folder, tmp_path):
    fields = ("networks=resnet8", "epochs=1", "queue.keys=12", "evaluation.test=never")
    spec = replace(recipes.moco(), parse(RunSpec, [*SMALL, *fields]))
    return train(spec, folder, tmp_path / "results", run_id="pretraining")


def classify(pretrained, *overrides, epochs=3):
    stage = Stage(base=recipes.lincls(), values=parse(RunSpec, [*SMALL, f"epochs={epochs}", "lr=0.5", *overrides]))
    return stage.resolved(pretrained)


def tensors_of(writer):
    checkpoint, _ = CheckpointFolder(writer.checkpoints).latest()
    return checkpoint.cohort


def test_classifiers_learn_on_the_networks_of_a_run_which_stay(pretrained, folder, tmp_path):
    spec, file = classify(pretrained.folder)
    assert spec.cohort == replace(recipes.moco(), parse(RunSpec, ["networks=resnet8"])).cohort
    assert spec.pretraining == recipes.load(str(pretrained.folder / "spec.yaml"))
    writer = train(spec, folder, tmp_path / "results", file)
    before, after = tensors_of(pretrained), tensors_of(writer)
    kept = {name for name in before if not name.startswith("heads.")}
    assert kept == {name for name in after if not name.startswith("classifiers.")}
    assert all(torch.equal(before[name], after[name]) for name in kept)
    rows = [row for row in read_epochs(writer.folder).to_pylist() if row["metric"] == "top1" and row["epoch"] == 3]
    assert {row["member"] for row in rows} == {"peer0", "peer1", "mean", "best", "ensemble"}
    assert next(row["value"] for row in rows if row["member"] == "mean") > 60


@pytest.mark.parametrize(("features", "members"), [("mean", {"peer0"}), ("1", {"peer0"}), ("each", {"peer0", "peer1"})])
def test_whose_features(pretrained, folder, tmp_path, features, members):
    spec, file = classify(pretrained.folder, f"features={features}", epochs=1)
    writer = train(spec, folder, tmp_path / "results", file)
    members_scored = {row["member"] for row in read_epochs(writer.folder).to_pylist() if row["metric"] == "top1"}
    assert {member for member in members_scored if member.startswith("peer")} == members


def test_networks_that_change_end_the_run(pretrained, folder, tmp_path, monkeypatch):
    spec, file = classify(pretrained.folder)
    place = run_state.place_cohort

    def thawed(*arguments):
        cohort = place(*arguments)
        cohort.train = nn.Module.train.__get__(cohort)  # running statistics of batch normalisation move again
        cohort.branches.train()
        return cohort

    monkeypatch.setattr(run_state, "place_cohort", thawed)
    with pytest.raises(BackboneChangedError, match="had the sha256"):
        train(spec, folder, tmp_path / "results", file)
    (row,) = [row for row in read_runs(tmp_path / "results").to_pylist() if row["run_id"] == "r"]
    assert (row["state"], row["error_type"]) == ("failed", "BackboneChangedError")


def test_a_checkpoint_alone_needs_its_networks_described(pretrained, tmp_path):
    (file,) = pretrained.checkpoints.iterdir()
    shutil.copy(file, tmp_path)
    spec, found = classify(tmp_path / file.name, "networks=resnet8", "cohort.size=2")
    assert spec.pretraining is None
    backbone = build_backbone(spec.cohort)
    load_backbone(backbone, found, spec.linear.backbone)
    wanted = tensors_of(pretrained)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in backbone.state_dict().items())
    spec, found = classify(tmp_path / file.name)
    with pytest.raises(CheckpointError, match=r"resnet18 \+ resnet18 \(own stems\), but .* holds resnet8 \+ resnet8"):
        load_backbone(build_backbone(spec.cohort), found, spec.linear.backbone)


def mocos(path, *names, dim=8):
    """A checkpoint as MoCo's code writes it, and the encoders in it."""
    encoders = {name: resnet18(num_classes=dim) for name in names}
    state = {f"module.{name}.{key}": value for name, one in encoders.items() for key, value in one.state_dict().items()}
    state |= {"module.encoder_k.conv1.weight": torch.zeros(1), "module.queue": torch.zeros(dim, 16)}
    torch.save({"epoch": 3, "arch": "resnet18", "state_dict": state, "optimizer": {"lr": 0.1}}, path)
    return list(encoders.values())


@pytest.mark.parametrize("names", [("encoder_q",), ("encoder_q_0", "encoder_q_1")])
def test_checkpoints_of_the_published_codes(tmp_path, names):
    encoders = mocos(tmp_path / "moco.pth.tar", *names)
    spec, file = classify(tmp_path / "moco.pth.tar")
    assert (spec.cohort.size, spec.cohort.peers) == (len(names), ("resnet18",) * len(names))
    backbone = build_backbone(spec.cohort).eval()
    load_backbone(backbone, file, spec.linear.backbone)
    images = torch.randn(2, 3, 64, 64)
    for features, encoder in zip(backbone.features(images), encoders, strict=True):
        encoder.eval().fc = nn.Identity()
        torch.testing.assert_close(features, encoder(images))


def test_what_is_no_backbone(pretrained, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="a run that has a checkpoint, or a checkpoint, but"):
        find_backbone(tmp_path / "empty")
    (tmp_path / "text.pth").write_text("no checkpoint")
    with pytest.raises(CheckpointError, match="torch cannot read .*text.pth without running code in it"):
        find_backbone(tmp_path / "text.pth")
    torch.save({"net": {"conv2.weight": torch.zeros(1)}}, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"the tensors of an encoder .* but .* is none of them"):
        find_backbone(tmp_path / "net.pth")
    (file,) = pretrained.checkpoints.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="is damaged"):
        find_backbone(file)
    mocos(tmp_path / "third.pth", "encoder_q_0", "encoder_q_2")
    with pytest.raises(CheckpointError, match=r"numbered from 0, but .* has \[0, 2\]"):
        find_backbone(tmp_path / "third.pth")


def test_another_file_than_the_spec_names_is_refused(tmp_path):
    mocos(tmp_path / "one.pth", "encoder_q")
    mocos(tmp_path / "other.pth", "encoder_q")
    spec, _ = classify(tmp_path / "one.pth")
    with pytest.raises(CheckpointError, match=r"the spec's linear.backbone is sha256:\w+, but .*other.pth is sha256:"):
        load_backbone(
            build_backbone(CohortSpec(networks="resnet18", size=1)), tmp_path / "other.pth", spec.linear.backbone
        )


def test_networks_of_linear_classification_are_not_taken(pretrained, folder, tmp_path):
    spec, file = classify(pretrained.folder, epochs=1)
    writer = train(spec, folder, tmp_path / "results", file)
    with pytest.raises(
        CheckpointError, match="--from requires a run that trains networks, but .* is of linear classification"
    ):
        classify(writer.folder)


def test_in_a_sweep_the_checkpoint_is_that_of_the_run_of_the_pretraining(folder, tmp_path):
    fields = ("networks=resnet8", "epochs=1", "queue.keys=12", "evaluation.test=never")
    specs = [replace(recipes.moco(), parse(RunSpec, [*SMALL, *fields, f"seed={seed}"])) for seed in (0, 1, 2)]
    with SweepWriter.create(
        tmp_path, "two", specs[0], objective="test/knn_top1/best", mode="max", trials_planned=1, provenance=None
    ) as sweep:
        runs = [train(spec, folder, sweep.folder, run_id=f"r{spec.seed}") for spec in specs[:2]]
    for spec, run in zip(specs, runs, strict=False):
        assert checkpoint_at(sweep.folder, spec) == find_backbone(run.folder).file
    with pytest.raises(CheckpointError, match="requires a checkpoint of its pretraining run in .*, but there is none"):
        checkpoint_at(sweep.folder, specs[2])
    file = find_backbone(runs[0].folder).file
    assert checkpoint_at(file, specs[2]) == file, "a checkpoint is itself"
