"""The section of a card on how its files are loaded: code that runs in their folder, without this project."""

from __future__ import annotations

from mcl_ray.results.dataset_info import DatasetInfo
from mcl_ray.transfer.member import Member

_PROGRAM = """\
import json
from pathlib import Path

import torch

config = json.loads(Path("config.json").read_text(encoding="utf-8"))
mean, std = (torch.tensor(config[name]).view(-1, 1, 1) for name in ("mean", "std"))
images = torch.rand(8, *config["input_size"])  # yours, as float32 from 0 to 1
with torch.no_grad():
    {output} = torch.export.load("program.pt2").module()((images - mean) / std)
{show}"""

_SHOW = {
    "logits": 'print([config["class_names"][k] for k in logits.argmax(1)])',
    "features": "print(features.shape)",
}

_ENCODER = """\
import torch
from safetensors.torch import load_file
from torchvision.models import {network}

model = {network}()
model.fc = torch.nn.Identity(){stem}
model.load_state_dict(load_file("model.safetensors"))
model.eval()"""

_ONE = """\
from safetensors.torch import load_file
from torchvision.models import {network}

model = {network}(num_classes={classes}){stem}
model.load_state_dict(load_file("model.safetensors"))
model.eval()"""

_SEVERAL = """\
from safetensors.torch import load_file
from torchvision.models import {imported}

tensors = load_file("model.safetensors")
peers = []
for i, build in enumerate([{networks}]):
    model = build(num_classes={classes}){stem}
    own = {{name: tensor for name, tensor in tensors.items() if name.startswith(f"peers.{{i}}.")}}
    model.load_state_dict({{name.removeprefix(f"peers.{{i}}."): tensor for name, tensor in own.items()}})
    peers.append(model.eval())"""

_STEM = "\nmodel.conv1 = torch.nn.Conv2d({channels}, 64, 7, stride=2, padding=3, bias=False)"
"""The first layer of torchvision's networks, for images that do not have three channels."""


def names(member: Member) -> str:
    """Return the naming scheme of the tensors, for the table of files."""
    each = ", those of peer i below `peers.{i}.`" if member.is_ensemble else ""
    if member.is_torchvision:
        return f"tensors by torchvision's names, which are timm's as well{each}"
    if member.is_of_plugins:
        return f"tensors by their names in the stem, the branch and the classifier of a network{each}"
    return f"tensors by the names of one network in the published code of Mutual Contrastive Learning{each}"


def section(member: Member, dataset: DatasetInfo, output: str) -> str:
    """Return the section, with the code for every library that can load this member.

    Args:
        member: The exported member.
        dataset: The data set that it was trained on.
        output: `logits` or `features`.
    """
    program = _PROGRAM.format(output=output, show=_SHOW[output])
    text = f"## Use\n\nWith torch alone:\n\n```python\n{program}\n```\n\n"
    if member.is_torchvision:
        code = _torchvision(member, dataset) if output == "logits" else _encoder(member, dataset)
        return f"{text}With torchvision, to continue from the weights:\n\n```python\n{code}\n```"
    return f"{text}Torchvision has no such network: `model.safetensors` is for those who have its code."


def _encoder(member: Member, dataset: DatasetInfo) -> str:
    return _ENCODER.format(network=member.networks[0], stem=_stem(dataset))


def _stem(dataset: DatasetInfo) -> str:
    channels = dataset.image_shape[0]
    return "" if channels == 3 else _STEM.format(channels=channels)


def _torchvision(member: Member, dataset: DatasetInfo) -> str:
    classes, stem = dataset.num_classes, _stem(dataset)
    if not member.is_ensemble:
        code = _ONE.format(network=member.networks[0], classes=classes, stem=stem)
    else:
        imported = ", ".join(sorted(set(member.networks)))
        networks = ", ".join(member.networks)
        stem = stem.replace("\n", "\n    ")
        code = _SEVERAL.format(imported=imported, networks=networks, classes=classes, stem=stem)
    return f"import torch\n{code}" if stem else code
