"""Exports: their files give the cohort's own logits in a process that cannot import this project."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mcl_ray.cohort import build_cohort
from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import parse, replace
from mcl_ray.config.spec import CohortSpec, RunSpec
from mcl_ray.data.source import dataset_for
from mcl_ray.interop import load_published
from mcl_ray.pipeline import Stage
from mcl_ray.results.dataset_info import IMAGES_FILE, read_dataset_info
from mcl_ray.results.store import RunWriter, read_epochs, read_runs
from mcl_ray.training.build import cohort_of
from mcl_ray.training.checkpoint import CheckpointFolder
from mcl_ray.training.recorded_run import train_recorded_run
from mcl_ray.transfer.bundle import export_run
from tests.support.commands import refused, run_command, run_forked, snapshot
from tests.support.forked import TRAINING
from tests.support.pictures import COLOURS, write_folder
from tests.support.without_project import without_project

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
NAMES = ["README.md", "config.json", "model.safetensors", "program.pt2"]
PROGRAM = """
import torch
from safetensors.torch import load_file, save_file
images = load_file("images")["images"]
program = torch.export.load(sys.argv[1] + "/program.pt2").module()
with torch.no_grad():
    whole = program(images)
    single = torch.cat([program(image[None]) for image in images])
    channels_last = program(images.contiguous(memory_format=torch.channels_last))
save_file({"whole": whole, "single": single, "channels_last": channels_last}, "logits")
"""


@dataclass(frozen=True)
class Trained:
    """A run, and its cohort with the weights of its checkpoint."""

    cwd: Path
    run_id: str

    @property
    def folder(self):
        return self.cwd / "results" / "runs" / self.run_id

    @property
    def dataset(self):
        return read_dataset_info(self.folder)

    def cohort(self):
        (row,) = read_runs(self.folder).to_pylist()
        spec = RunSpec.model_validate_json(row["spec"])
        cohort = build_cohort(spec.cohort, len(self.dataset.class_names), self.dataset.image_shape[0])
        checkpoint, _ = CheckpointFolder(self.folder / "checkpoints").latest()
        cohort.load_state_dict(checkpoint.cohort)
        return cohort.eval()

    def batch(self):
        return torch.randn(5, *self.dataset.image_shape, generator=torch.Generator().manual_seed(3))

    def logits(self):
        with torch.no_grad():
            return self.cohort().logits(self.batch())

    def top1(self):
        rows = read_epochs(self.folder).to_pylist()
        return {row["member"]: row["value"] for row in rows if (row["split"], row["metric"]) == ("test", "top1")}

    def exported(self, peer="best", out=None):
        return self.folder_of(export_run(self.folder, peer, out))

    def exported_by_command(self, *words):
        seen = run_forked(self.cwd, "export", self.run_id, *words, modules=TRAINING)
        assert (seen.code, seen.stderr) == (0, "")
        chosen, *wrote = seen.stdout.splitlines()
        return self.folder_of([self.cwd / line.removeprefix("wrote ") for line in wrote]), chosen

    @staticmethod
    def folder_of(files):
        assert sorted(file.name for file in files) == sorted(path.name for path in files[0].parent.iterdir()) == NAMES
        return files[0].parent


def train(cwd, spec, environment):
    writer = RunWriter.create(cwd / "results", spec)
    train_recorded_run(spec, dataset_for(spec, environment), environment, writer)
    return Trained(cwd, writer.run_id)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Train three peers that share their stem."""
    spec = replace(recipes.digits(), parse(RunSpec, ["epochs=1", "cohort.size=3"]))
    return train(tmp_path_factory.mktemp("digits"), spec, Environment())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Train networks of torchvision that share their stem on small pictures."""
    cwd = tmp_path_factory.mktemp("pictures")
    environment = Environment(data=write_folder(cwd / "data"), results=cwd / "results", readers=0)
    words = ["image_size=32", "epochs=1", "cohort.size=2", "networks=resnet18", "sharing=stem", "batch.size=12"]
    words += ["negatives=8", "lr=0.01", "normalisation=measured"]
    return train(cwd, replace(recipes.imagenet(), parse(RunSpec, words)), environment)


@pytest.fixture(scope="module")
def with_torch():
    """An interpreter without this project and without torchvision."""
    with without_project("torchvision") as alone:
        yield alone


@pytest.fixture(scope="module")
def with_torchvision():
    """An interpreter without this project."""
    with without_project() as alone:
        yield alone


def check_program(with_torch, trained, exported, wanted, tmp_path):
    """Check that a program gives the expected logits for images in any number and memory format, with torch only."""
    save_file({"images": trained.batch()}, tmp_path / "images")
    with_torch.run(tmp_path, PROGRAM, str(exported))
    found = load_file(tmp_path / "logits")
    assert set(found) == {"whole", "single", "channels_last"}
    for logits in found.values():
        torch.testing.assert_close(logits, wanted, **TOLERANCE)


def card_code(exported):
    return re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), re.DOTALL)


@pytest.mark.slow
def test_the_best_peer_is_exported_by_default(digits, with_torch, tmp_path):
    exported, chosen = digits.exported_by_command()
    top1 = digits.top1()
    best = max(range(3), key=lambda i: top1[f"peer{i}"])
    assert f"peer{best}: the peer with the highest test top-1, as the run has no validation split" in chosen
    assert exported == digits.folder / "export" / f"peer{best}"
    check_program(with_torch, digits, exported, digits.logits()[best], tmp_path)
    card = (exported / "README.md").read_text()
    assert f"| test | 1 | {top1[f'peer{best}']:.2f} |" in card
    assert "the highest test top-1" in card


@pytest.mark.slow
def test_a_peer_is_exported_by_number_into_an_empty_folder_which_no_other_export_replaces(digits, with_torch, tmp_path):
    (tmp_path / "two").mkdir()
    exported = digits.exported("2", tmp_path / "two")
    assert exported == tmp_path / "two"
    (tmp_path / "alone").mkdir()
    check_program(with_torch, digits, exported, digits.logits()[2], tmp_path / "alone")
    config = json.loads((exported / "config.json").read_text())
    assert (config["member"], config["architecture"], config["output"]) == ("peer2", ["resnet8"], "logits")
    assert (config["class_names"], config["input_size"]) == (list("0123456789"), [1, 8, 8])
    assert (config["mean"], config["std"]) == (list(digits.dataset.mean), list(digits.dataset.std))
    check_card(with_torch, digits, exported, config)
    check_names_no_path_of_the_machine(digits, exported)
    message = refused(digits.cwd, "export", digits.run_id, "--peer", "1", "--out", str(exported))
    assert f"an export replaces nothing, but {exported} is there; remove it, or give another --out" in message


@pytest.mark.slow
def test_an_export_from_python_has_the_same_files(digits, tmp_path):
    files = export_run(digits.folder, "0", tmp_path / "python")
    assert sorted(file.name for file in files) == NAMES
    command, chosen = digits.exported_by_command("--peer", "0", "--out", str(tmp_path / "command"))
    assert chosen == f"{digits.run_id}, peer0"
    for file in files:
        if file.name != "program.pt2":  # an archive with times
            assert file.read_bytes() == (command / file.name).read_bytes()


def check_card(with_torch, trained, exported, config):
    """Check the card of peer 2, and that its code runs without this project."""
    card = (exported / "README.md").read_text()
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "other"
    (spec,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert RunSpec.model_validate(yaml.safe_load(spec)).digest == config["spec_digest"]
    parameters = sum(parameter.numel() for parameter in trained.cohort().peer(2).parameters())
    assert f"{parameters:,} parameters" in card
    assert "Weights inherit the terms of the images" in card
    assert "://" not in card
    assert "flatters" not in card
    (code,) = card_code(exported)
    guessed = with_torch.run(exported, code)
    assert set(json.loads(guessed.replace("'", '"'))) <= set("0123456789")


def check_names_no_path_of_the_machine(trained, exported):
    """Check that no file names a path of this machine."""
    root = str(Path(__file__).parents[2]).encode()
    for file in exported.iterdir():
        content = file.read_bytes()
        assert root not in content
        assert str(trained.cwd).encode() not in content
    with safe_open(exported / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.slow
def test_an_ensemble_is_the_mean_of_logits_and_each_of_its_peers_is_complete(digits, with_torch, tmp_path):
    exported = digits.exported("ensemble")
    assert exported == digits.folder / "export" / "ensemble"
    check_program(with_torch, digits, exported, digits.logits().mean(0), tmp_path)
    tensors = load_file(exported / "model.safetensors")
    apart = build_cohort(CohortSpec(networks=("resnet8",), size=3, sharing="none"), 10, 1).eval()
    load_published(apart, {f"module_list.{name.removeprefix('peers.')}": tensor for name, tensor in tensors.items()})
    with torch.no_grad():
        torch.testing.assert_close(apart.logits(digits.batch()), digits.logits(), **TOLERANCE)
    assert f"| test | 1 | {digits.top1()['ensemble']:.2f} |" in (exported / "README.md").read_text()


TORCHVISION = """
import torch
from safetensors.torch import load_file, save_file
{card}
images = load_file(sys.argv[1])["images"]
with torch.no_grad():
    logits = {logits}
save_file({{"logits": logits}}, sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("peer", "logits", "wanted"),
    [
        ("1", "model(images)", lambda logits: logits[1]),
        ("ensemble", "torch.stack([peer(images) for peer in peers]).mean(0)", lambda logits: logits.mean(0)),
    ],
)
def test_torchvisions_networks_take_the_tensors_as_they_are(
    peer, logits, wanted, pictures, with_torch, with_torchvision, tmp_path
):
    exported = pictures.exported(peer, tmp_path / "out")
    with torch.no_grad():
        expected = wanted(pictures.logits())
    check_program(with_torch, pictures, exported, expected, tmp_path)
    _, card = card_code(exported)
    assert "load_state_dict" in card
    code = TORCHVISION.format(card=card, logits=logits)
    with_torchvision.run(exported, code, str(tmp_path / "images"), str(tmp_path / "found"))
    torch.testing.assert_close(load_file(tmp_path / "found")["logits"], expected, **TOLERANCE)
    assert json.loads((exported / "config.json").read_text())["class_names"] == sorted(COLOURS)


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        ("{run} --peer 3", "a peer must be best, ensemble or a number from 0 to 2, but got '3'"),
        ("{run} --peer=-1", "a number from 0 to 2, but got '-1'"),
        ("{run} --peer first", "a number from 0 to 2, but got 'first'"),
        ("{run} --peer 1.0", "a number from 0 to 2, but got '1.0'"),
        ("{run} --peer ٢", "a number from 0 to 2, but got '٢'"),
        ("{run}0", "or by its id, but got {run}0; did you mean {run}?"),
        ("results", "or by its id, but results is neither"),
        ("{run} --out results/runs/{run}/spec.yaml", "an export replaces nothing, but results/runs/{run}/spec.yaml is"),
        ("{run} --out results/runs", "an export replaces nothing, but results/runs is there"),
        ("{run} --out results/runs/{run}/spec.yaml/x", "the folder of an export must be writable, but "),
        ("{run} --results elsewhere", "but got {run}; elsewhere holds none"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(words, rule, digits):
    message = refused(digits.cwd, "export", *words.format(run=digits.run_id).split(" "))
    assert rule.format(run=digits.run_id) in message


def test_a_run_without_a_checkpoint_or_a_figure(tmp_path):
    with RunWriter.create(tmp_path / "results", recipes.digits()) as writer:
        writer.finish("failed")
    message = refused(tmp_path, "export", writer.run_id)
    assert "highest top-1 of validation or test, but the run has no such figure; name a peer from 0 to 1" in message
    message = refused(tmp_path, "export", writer.run_id, "--peer", "0")
    assert f"a run with a checkpoint can be exported, but results/runs/{writer.run_id} has none" in message


@pytest.mark.slow
def test_checkpoints_that_are_all_damaged(digits, tmp_path):
    with RunWriter.create(tmp_path / "results", recipes.digits()) as writer:
        writer.finish("stopped")
    writer.checkpoints.mkdir()
    (writer.checkpoints / f"epoch-0001-{'0' * 16}.pt").write_bytes(b"half")
    before = snapshot(tmp_path)
    seen = run_command(tmp_path, "export", writer.run_id, "--peer", "0")
    assert (seen.code, seen.stdout) == (2, "")
    assert "all 1 in" in seen.stderr.splitlines()[-1]
    assert snapshot(tmp_path) == before


@pytest.mark.slow
def test_an_older_run_without_images_json_is_described_by_its_data(tmp_path):
    spec = replace(recipes.digits(), parse(RunSpec, ["epochs=1", "cohort.size=1"]))
    trained = train(tmp_path, spec, Environment())
    dataset = trained.dataset
    (trained.folder / IMAGES_FILE).unlink()
    config = json.loads((trained.exported() / "config.json").read_text())
    assert (config["mean"], config["class_names"]) == (list(dataset.mean), list(dataset.class_names))


ENCODER = """
import torch
from safetensors.torch import load_file, save_file

{card}
images = load_file(sys.argv[1])["images"]
with torch.no_grad():
    save_file({{"features": model(images)}}, sys.argv[2])
"""


@pytest.mark.slow
def test_encoders_are_exported_with_features_and_linear_classifiers_with_the_frozen_networks(
    with_torch, with_torchvision, tmp_path
):
    environment = Environment(data=write_folder(tmp_path / "data"), results=tmp_path / "results", readers=0)
    words = ["image_size=32", "epochs=1", "batch.size=12", "schedule.kind=cosine", "milestones=[]", "lr=0.01"]
    own = ["networks=resnet18", "queue.keys=12", "neighbours=3"]
    encoders = train(tmp_path, replace(recipes.moco(), parse(RunSpec, [*words, *own])), environment)
    rows = read_epochs(encoders.folder).to_pylist()
    top1 = {row["member"]: row["value"] for row in rows if row["metric"] == "knn_top1"}
    exported = encoders.exported()
    best = max(range(2), key=lambda i: top1[f"peer{i}"])
    assert exported.name == f"peer{best}"
    cohort = build_cohort(CohortSpec(networks=("resnet18",), size=2, sharing="none", head="linear"), 0).eval()
    checkpoint, _ = CheckpointFolder(encoders.folder / "checkpoints").latest()
    cohort.load_state_dict(checkpoint.cohort)
    with torch.no_grad():
        wanted = cohort.features(encoders.batch())[best]
    check_program(with_torch, encoders, exported, wanted, tmp_path)
    card = (exported / "README.md").read_text()
    assert "kNN top-1 (%)" in card
    assert "learned without labels" in card
    code = ENCODER.format(card=card_code(exported)[1])
    with_torchvision.run(exported, code, str(tmp_path / "images"), str(tmp_path / "found"))
    torch.testing.assert_close(load_file(tmp_path / "found")["features"], wanted, **TOLERANCE)
    message = refused(tmp_path, "export", encoders.run_id, "--peer", "ensemble")
    assert "an ensemble needs logits, but method=moco has none; name a peer from 0 to 1" in message

    stage = Stage(base=recipes.lincls(), values=parse(RunSpec, [*words, "linear.features=1"]))
    spec, backbone = stage.resolved(encoders.folder)
    classified = train(tmp_path, spec, dataclasses.replace(environment, backbone=backbone))
    exported = classified.exported()
    checkpoint, _ = CheckpointFolder(classified.folder / "checkpoints").latest()
    whole = cohort_of(spec, 3, 3)
    whole.load_state_dict(checkpoint.cohort)
    with torch.no_grad():
        check_program(with_torch, classified, exported, whole.logits(classified.batch())[0], tmp_path)
    tensors = load_file(exported / "model.safetensors")
    assert torch.equal(tensors["conv1.weight"], cohort.stems[1].conv.weight)
    assert tensors["fc.weight"].shape == (3, 512)
