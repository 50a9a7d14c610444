"""Encoders in checkpoints of other codes: found by the names of their tensors, with the same features."""

import argparse
import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18

from mcl_ray.config.spec import CohortSpec
from mcl_ray.encoders import read_encoders
from mcl_ray.errors import CheckpointError
from mcl_ray.linear_probe import build_backbone
from mcl_ray.training.backbone import find_backbone, load_backbone

COHORT = CohortSpec(networks="resnet18", size=1, sharing="none")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return resnet18(num_classes=8)


def prefixed(network, *prefixes):
    return {f"{prefix}{name}": tensor for prefix in prefixes for name, tensor in network.state_dict().items()}


def another():
    return resnet18(num_classes=8)


def lightly(network):
    """lightly's SimCLR and MoCo: a Sequential of the children without fc, its momentum copy, and a projection head."""
    online, momentum = (nn.Sequential(*list(of.children())[:-1]) for of in (network, another()))
    state = prefixed(online, "backbone.") | prefixed(momentum, "backbone_momentum.")
    return {"state_dict": state | {"projection_head.layers.0.weight": torch.zeros(8, 8)}, "epoch": 3, "loops": {}}


def solo_learn(network, name="backbone"):
    state = prefixed(network, f"{name}.") | prefixed(another(), f"momentum_{name}.")
    state = {key: value for key, value in state.items() if ".fc." not in key}
    return {"state_dict": state | {"projector.0.weight": torch.zeros(8, 8), "classifier.weight": torch.zeros(2, 8)}}


def moco_v3(network):
    state = prefixed(network, "module.base_encoder.") | prefixed(another(), "module.momentum_encoder.")
    state = {name.replace(".fc.", ".fc.0."): tensor for name, tensor in state.items()}
    return {"epoch": 3, "arch": "resnet18", "state_dict": state | {"module.predictor.0.weight": torch.zeros(8, 8)}}


def timm(network):
    arguments = argparse.Namespace(model="resnet18", lr=0.1)
    return {"epoch": 3, "arch": "resnet18", "state_dict": network.state_dict(), "args": arguments, "metric": 71.5}


CONTENTS = {
    "torchvision": lambda network: network.state_dict(),
    "model": lambda network: {"model": network.state_dict(), "epoch": 3},
    "compiled": lambda network: prefixed(network, "_orig_mod."),
    "compiled in parallel": lambda network: {"state_dict": prefixed(network, "module._orig_mod.")},
    "parallel in a compiled module": lambda network: {"model": prefixed(network, "_orig_mod.backbone.module.")},
    "half": lambda network: {name: tensor.half() for name, tensor in network.state_dict().items()},
    "MoCo": lambda network: {
        "state_dict": prefixed(network, "module.encoder_q.") | prefixed(another(), "module.encoder_k.")
    },
    "MoCo v3": moco_v3,
    "lightly": lightly,
    "solo-learn": solo_learn,
    "solo-learn 1.0": lambda network: solo_learn(network, "encoder"),
    "timm": timm,
    "DINO": lambda network: {
        "student": prefixed(network, "module.backbone.") | {"module.head.mlp.0.weight": torch.zeros(8, 8)},
        "teacher": prefixed(another(), "backbone."),
    },
    "SwAV": lambda network: (
        {name: tensor for name, tensor in prefixed(network, "module.").items() if ".fc." not in name}
        | {"module.projection_head.0.weight": torch.zeros(8, 8), "module.prototypes.weight": torch.zeros(8, 8)}
    ),
    "entries in entries": lambda network: {"checkpoint": {"model": {"state_dict": network.state_dict()}}},
    "numpy's scalars": lambda network: {"state_dict": network.state_dict(), "best": np.float64(0.5), "n": np.int64(3)},
}


def features_equal(file, network, *, tolerance=0.0):
    backbone, found = build_backbone(COHORT).eval(), find_backbone(file)
    assert (found.num_peers, found.pretraining) == (1, None)
    load_backbone(backbone, found.file, found.checksum)
    images, plain = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)), another()
    plain.load_state_dict(network.state_dict())
    plain.eval().fc = nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(backbone.features(images)[0], plain(images), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("code", CONTENTS)
def test_the_encoder_of_another_code_is_found(code, network, tmp_path):
    torch.save(CONTENTS[code](network), tmp_path / "checkpoint.pth")
    features_equal(tmp_path / "checkpoint.pth", network, tolerance=0.05 if code == "half" else 1e-5)


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.encoder_q."])
def test_safetensors_are_read(prefix, network, tmp_path):
    save_file(prefixed(network, prefix), tmp_path / "model.safetensors")
    features_equal(tmp_path / "model.safetensors", network, tolerance=1e-5)


def write_shards(network, folder, name="model", changes=()):
    """A checkpoint in two shards, as Hugging Face writes it, with `changes` of its weight_map; return the index."""
    folder.mkdir(exist_ok=True)
    state = prefixed(network, "backbone.")
    parts = {f"{name}-0000{part + 1}-of-00002.safetensors": list(state)[part::2] for part in range(2)}
    for file, names in parts.items():
        save_file({tensor: state[tensor] for tensor in names}, folder / file)
    places = {tensor: file for file, names in parts.items() for tensor in names} | dict(changes)
    index = folder / f"{name}.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


@pytest.mark.parametrize("given", ["index", "folder", "folder of one file", "link", "folder below"])
def test_safetensors_are_read_from_shards_and_from_their_folder(given, network, tmp_path):
    index = write_shards(network, tmp_path / "hub")
    if given == "folder of one file":
        (tmp_path / "one").mkdir()
        save_file(network.state_dict(), tmp_path / "one/model.safetensors")
    elif given == "link":  # as the cache of Hugging Face
        (tmp_path / "blob").write_bytes((tmp_path / "hub/model-00002-of-00002.safetensors").read_bytes())
        (tmp_path / "hub/model-00002-of-00002.safetensors").unlink()
        (tmp_path / "hub/model-00002-of-00002.safetensors").symlink_to("../blob")
    elif given == "folder below":
        (tmp_path / "hub/parts").mkdir()
        (tmp_path / "hub/model-00002-of-00002.safetensors").rename(tmp_path / "hub/parts/2.safetensors")
        text = index.read_text().replace("model-00002-of-00002", "parts/2")
        index.write_text(text)
    features_equal(
        {"index": index, "folder of one file": tmp_path / "one"}.get(given, tmp_path / "hub"), network, tolerance=1e-5
    )


def test_the_checksum_of_shards_covers_each(network, tmp_path):
    index = write_shards(network, tmp_path / "hub")
    before, backbone = find_backbone(index).checksum, build_backbone(COHORT)
    assert before == find_backbone(tmp_path / "hub").checksum
    write_shards(another(), tmp_path / "other")
    shard = "model-00002-of-00002.safetensors"
    (tmp_path / "hub" / shard).write_bytes((tmp_path / "other" / shard).read_bytes())
    assert find_backbone(index).checksum != before
    with pytest.raises(CheckpointError, match="the spec's linear.backbone is sha256:"):
        load_backbone(backbone, index, before)


@pytest.mark.parametrize(
    ("place", "rule"),
    [
        ("model-00003-of-00003.safetensors", "must have all of its shards, but 'model-00003-of-00003.* is missing"),
        ("x" * 300 + ".safetensors", "must have all of its shards"),
        ("a\0.safetensors", "must have all of its shards"),
        ("../other.safetensors", "a shard must be a file .* in the folder of its index, but .* has '../other.safetens"),
        ("/etc/other.safetensors", "a shard must be a file .* in the folder of its index"),
        ("config.json", "a shard must be a file .*safetensors in the folder"),
        (
            "model-00002-of-00002.safetensors",
            "must hold the tensors that its index names, but .* lacks backbone.conv1.w",
        ),
        (3, "with a weight_map of tensors to files, but has none"),
    ],
)
def test_shards_that_are_missing_or_elsewhere_are_refused(place, rule, network, tmp_path):
    index = write_shards(network, tmp_path / "hub", changes={"backbone.conv1.weight": place})
    save_file(network.state_dict(), tmp_path / "other.safetensors")
    for source in (index, index.parent):
        with pytest.raises(CheckpointError, match=rule):
            find_backbone(source)


def test_an_index_that_is_none_and_a_folder_of_several_checkpoints_are_refused(network, tmp_path):
    index = tmp_path / "x/model.safetensors.index.json"
    index.parent.mkdir()
    for content in ("", "[]", "{}", '{"weight_map": {}}', "[" * 100_000):
        index.write_text(content)
        with pytest.raises(CheckpointError, match=r"index.json must be an index of shards"):
            find_backbone(index)
    write_shards(network, index.parent, "second")
    with pytest.raises(CheckpointError, match=r"must hold one checkpoint of safetensors, but .*x has model.*, second"):
        find_backbone(index.parent)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"--from requires a run that has a checkpoint, or a checkpoint, but"):
        find_backbone(tmp_path / "empty")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda tensor: tensor.fill_(float("nan")), "1 with values that are not finite: module_list.0.layer1.0.conv1"),
        (lambda tensor: tensor.view(-1)[:1].fill_(float("inf")), "1 with values that are not finite"),
        (lambda tensor: tensor.double() * 1e300, "1 with values that are not finite"),
        (lambda tensor: (tensor * 100).to(torch.int8), "1 not of real numbers: module_list.0.layer1.0.conv1.weight"),
        (lambda tensor: tensor > 0, "1 not of real numbers"),
        (lambda tensor: tensor.to(torch.complex64), "1 not of real numbers"),
        (lambda tensor: tensor.to_sparse(), "1 not of real numbers"),
        (lambda tensor: tensor.to("meta"), "1 not of real numbers"),
        (lambda tensor: tensor[:1], "1 of another shape"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, as it reads sparse weights
def test_weights_must_be_finite_real_numbers(change, rule, network, tmp_path):
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    changed = change(state["layer1.0.conv1.weight"])
    if changed.shape == state["layer1.0.conv1.weight"].shape or rule.endswith("shape"):
        state["layer1.0.conv1.weight"] = changed
    torch.save(state, tmp_path / "x.pth")
    backbone = build_backbone(COHORT)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with pytest.raises(CheckpointError, match=re.escape(rule)):
        load_backbone(backbone, tmp_path / "x.pth", find_backbone(tmp_path / "x.pth").checksum)
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (
            lambda network: prefixed(network, "left.", "right."),
            "one encoder, or numbered ones, but .* has left., right.",
        ),
        (lambda network: prefixed(network, "encoder_k."), "is none of them"),
        (lambda network: prefixed(network, "", "module."), "hold each tensor once, but .* has conv1.weight twice"),
        (lambda _: {"conv2.weight": torch.zeros(3)}, "is none of them"),
        (lambda _: [1, 2], "is none of them"),
    ],
)
def test_what_holds_no_encoder_or_several_is_refused(content, rule, network, tmp_path):
    torch.save(content(network), tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=rule):
        read_encoders(tmp_path / "x.pth")


def test_no_code_is_run_and_damage_is_told(network, tmp_path):
    torch.save({"state_dict": network.state_dict(), "args": Hostile(str(tmp_path / "trace"))}, tmp_path / "x.pth")
    save_file(network.state_dict(), tmp_path / "x.safetensors")
    content = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(content[:-5])
    for name in ("x.pth", "x.safetensors"):
        with pytest.raises(CheckpointError, match="cannot read .* without running code in it"):
            read_encoders(tmp_path / name)
    assert not (tmp_path / "trace").exists()
