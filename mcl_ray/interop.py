"""Conversion of published checkpoints to cohorts and back.

The published code names the tensors of independent peers `module_list.{i}.…`. With a shared stem, the stem's tensors
are named as in a single network, and those of each branch carry the peer's index. Published checkpoints have no heads;
a cohort's heads keep their values. This project's own checkpoints are in `mcl_ray.training.checkpoint`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from mcl_ray.cohort import Cohort
from mcl_ray.config.registry import NETWORKS
from mcl_ray.errors import CheckpointError
from mcl_ray.models.network import Network

_COUNTER = "num_batches_tracked"
_PARALLEL_PREFIX = "module."
_MAX_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class _Naming:
    """Naming of one architecture in the published code: our prefix → published prefix, in the published order.

    `{i}` stands for the peer's index.
    """

    stem: dict[str, str]
    independent: dict[str, str]
    """Prefixes beyond the stem of a peer that shares nothing, below `module_list.{i}`."""
    shared: tuple[dict[str, str], ...]
    """Prefixes beyond a shared stem, in parts: the published order has one part of all peers, then the next part."""
    inside: tuple[tuple[str, str], ...]
    """Substitutions (pattern, replacement) of whole path components below the prefixes, applied in this order."""


_RESNET = _Naming(
    stem={"conv": "conv1", "norm": "bn1", "stage1": "layer1"},
    independent={"stage2": "layer2", "stage3": "layer3", "classifier": "classifier"},
    shared=({"stage2": "layer2_{i}", "stage3": "layer3_{i}", "classifier": "classifier_{i}"},),
    inside=((r"norm(\d)", r"bn\1"), (r"shortcut", r"downsample")),
)

_WRN = _Naming(
    stem={"conv": "conv1", "stage1": "block1.layer"},
    independent={"stage2": "block2.layer", "stage3": "block3.layer", "norm": "bn1", "classifier": "fc"},
    shared=(
        {"stage2": "block2_{i}.layer", "stage3": "block3_{i}.layer", "norm": "bn_{i}", "classifier": "classifier_{i}"},
    ),
    inside=((r"norm(\d)", r"bn\1"), (r"shortcut", r"convShortcut")),
)

_SHUFFLENETV2 = _Naming(
    stem={"conv": "conv1", "norm": "bn1", "stage1": "layer1"},
    independent={
        "stage2": "layer2",
        "stage3": "layer3",
        "widen.conv": "conv2",
        "widen.norm": "bn2",
        "classifier": "linear",
    },
    shared=(
        {
            "stage2": "layer2_{i}",
            "stage3": "layer3_{i}",
            "widen.conv": "conv2_{i}",
            "widen.norm": "bn2_{i}",
            "classifier": "classifier_{i}",
        },
    ),
    inside=(
        (r"norm", r"bn"),
        (r"down\.shortcut\.depthwise\.(conv|bn)", r"0.\g<1>1"),
        (r"down\.shortcut\.project\.(conv|bn)", r"0.\g<1>2"),
        (r"down\.transform\.expand\.(conv|bn)", r"0.\g<1>3"),
        (r"down\.transform\.depthwise\.(conv|bn)", r"0.\g<1>4"),
        (r"down\.transform\.project\.(conv|bn)", r"0.\g<1>5"),
        (r"unit(\d+)\.transform\.expand\.(conv|bn)", r"\1.\g<2>1"),
        (r"unit(\d+)\.transform\.depthwise\.(conv|bn)", r"\1.\g<2>2"),
        (r"unit(\d+)\.transform\.project\.(conv|bn)", r"\1.\g<2>3"),
    ),
)

_HCGNET = _Naming(
    stem={
        "conv": "features.conv0",
        "stage1": "features.HybridBlock1",
        "transition1": "features.Transition1",
    },
    independent={
        "stage2": "features.HybridBlock2",
        "transition2": "features.Transition2",
        "stage3": "features.HybridBlock3",
        "norm": "features.norm5",
        "classifier": "classifier",
    },
    shared=(
        {"stage2": "layer2_HybridBlock{i}", "transition2": "layer2_Transition{i}"},
        {"stage3": "layer3_HybridBlock{i}", "norm": "norm5_{i}", "classifier": "linear_{i}"},
    ),
    inside=(
        (r"unit(\d+)", r"SMG\1"),
        (r"squeeze\.(norm|conv)", r"conv1_1x1.\1"),
        (r"spatial", r"conv2_3x3"),
        (r"gated\.update_gate\.near", r"conv_3x3"),
        (r"gated\.update_gate\.far", r"conv_5x5"),
        (r"gated\.update_gate\.near_context\.score", r"global_context3x3"),
        (r"gated\.update_gate\.far_context\.score", r"global_context5x5"),
        (r"gated\.update_gate\.squeeze", r"fcall"),
        (r"gated\.update_gate\.norm", r"bn_attention"),
        (r"gated\.update_gate\.near_score", r"fc3x3"),
        (r"gated\.update_gate\.far_score", r"fc5x5"),
        (r"gated\.forget_gate\.context\.score", r"global_forget_context"),
        (r"gated\.forget_gate\.norm", r"bn_forget"),
        (r"gated\.forget_gate\.squeeze", r"fc1"),
        (r"gated\.forget_gate\.expand", r"fc2"),
    ),
)

_RESNET_IMAGENET = _Naming(
    stem={"conv": "conv1", "norm": "bn1", "stage1": "layer1", "stage2": "layer2"},
    independent={"stage3": "layer3", "stage4": "layer4", "classifier": "fc"},
    shared=({"stage3": "layer3_{i}", "stage4": "layer4_{i}", "classifier": "classifier_{i}"},),
    inside=(),
)

_NAMING = {
    "resnet_cifar": _RESNET,
    "resnet_imagenet": _RESNET_IMAGENET,
    "wrn": _WRN,
    "shufflenetv2": _SHUFFLENETV2,
    "hcgnet": _HCGNET,
}
"""Naming by the module that builds the architecture."""


def _naming(network: str) -> _Naming:
    return next(naming for module, naming in _NAMING.items() if NETWORKS[network].is_of(f"mcl_ray.models.{module}"))


def _prefixes(cohort: Cohort) -> Iterator[tuple[str, str, _Naming]]:
    """Yield (our prefix, published prefix, their naming) in the published order."""
    if not cohort.shares_stem:
        for i, network in enumerate(cohort.names):
            naming = _naming(network)
            for ours, published in naming.stem.items():
                yield f"stems.{i}.{ours}", f"module_list.{i}.{published}", naming
            for ours, published in naming.independent.items():
                yield _beyond_stem(ours, i), f"module_list.{i}.{published}", naming
        return
    naming = _naming(cohort.names[0])
    for ours, published in naming.stem.items():
        yield f"stems.0.{ours}", published, naming
    for part in naming.shared:
        for i in range(cohort.num_peers):
            for ours, published in part.items():
                yield _beyond_stem(ours, i), published.format(i=i), naming


def _beyond_stem(ours: str, peer: int) -> str:
    return f"classifiers.{peer}" if ours == "classifier" else f"branches.{peer}.{ours}"


def published_names(cohort: Cohort) -> dict[str, str]:
    """Return published name → our name of every tensor, in the published order, without batch counters and heads."""
    ours = [name for name in cohort.state_dict() if not name.endswith(_COUNTER) and not name.startswith("heads.")]
    names = {}
    for our_prefix, published_prefix, naming in _prefixes(cohort):
        for name in ours:
            if name.startswith(our_prefix + "."):
                rest = name.removeprefix(our_prefix + ".")
                names[f"{published_prefix}.{_inside(rest, naming)}"] = name
    return names


def network_names(name: str, network: Network) -> dict[str, str]:
    """Return our name → published name of every tensor of one network, in its order, batch counters included.

    For networks of torchvision the published names are torchvision's own; those of plugins keep ours.

    Args:
        name: the name of the network, a key of `NETWORKS`.
        network: the network itself.
    """
    if NETWORKS.module_of(name) is not None:
        return {ours: ours for ours in network.state_dict()}
    naming = _naming(name)
    prefixes = {f"stem.{ours}": published for ours, published in naming.stem.items()} | {
        ours if ours == "classifier" else f"branch.{ours}": published for ours, published in naming.independent.items()
    }
    names = {}
    for ours in network.state_dict():
        prefix = next(prefix for prefix in prefixes if ours.startswith(prefix + "."))
        names[ours] = f"{prefixes[prefix]}.{_inside(ours.removeprefix(prefix + '.'), naming)}"
    return names


def _inside(rest: str, naming: _Naming) -> str:
    """Return the published name of a tensor below a prefix."""
    for pattern, replacement in naming.inside:
        rest = re.sub(rf"(?<![^.]){pattern}(?![^.])", replacement, rest)
    return rest


def load_published(cohort: Cohort, state_dict: Mapping[str, object]) -> None:
    """Copy a published state dict into a cohort; heads and batch counters stay unchanged.

    All names may have the prefix of `DataParallel`.

    Raises:
        CheckpointError: a tensor is missing, unexpected, of another shape, not of real numbers, or not finite;
            nothing has been copied in this case.
    """
    names = published_names(cohort)
    targets = cohort.state_dict()
    prefix = _PARALLEL_PREFIX if all(name.startswith(_PARALLEL_PREFIX) for name in state_dict) else ""
    given = {name.removeprefix(prefix): value for name, value in state_dict.items() if not name.endswith(_COUNTER)}
    problems = {
        "missing": [name for name in names if name not in given],
        "unexpected": [name for name in given if name not in names],
        "of another shape": [
            f"{name} ({_shape(given[name])}, not {_shape(targets[ours])})"
            for name, ours in names.items()
            if name in given and _shape(given[name]) != _shape(targets[ours])
        ],
        "not of real numbers": [name for name in names if name in given and not _is_real(given[name])],
        "with values that are not finite": [name for name in names if name in given and not _is_finite(given[name])],
    }
    if any(problems.values()):
        details = "; ".join(f"{len(found)} {kind}: {_listed(found)}" for kind, found in problems.items() if found)
        raise CheckpointError(
            f"a checkpoint must hold exactly the tensors of its cohort, but for {_description(cohort)}: {details}"
        )
    with torch.no_grad():
        for name, ours in names.items():
            targets[ours].copy_(cast("Tensor", given[name]))


def to_published(cohort: Cohort) -> dict[str, Tensor]:
    """Return the cohort's tensors, not copies, by their published names, in the published order, without heads."""
    state_dict = cohort.state_dict()
    return {published: state_dict[ours] for published, ours in published_names(cohort).items()}


def read_published(path: str | Path) -> dict[str, Tensor]:
    """Read the state dict in the `net` entry of a published checkpoint, onto the CPU. No code in the file is executed.

    Raises:
        CheckpointError: the file is missing, damaged, holds more than plain data, or has no such entry.
    """
    path = Path(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise almost any exception
        raise CheckpointError(f"{path} must be a checkpoint that torch can read, but got: {error}") from error
    state_dict = content.get("net") if isinstance(content, dict) else None
    if not isinstance(state_dict, dict):
        raise CheckpointError(f"{path} must hold a state dict in its entry 'net', but has {_entries(content)}")
    wrong = [str(name) for name, value in state_dict.items() if not (isinstance(name, str) and _is_tensor(value))]
    if wrong:
        raise CheckpointError(
            f"every entry of 'net' in {path} must be a named tensor, but got others: {_listed(wrong)}"
        )
    return state_dict


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def _is_real(value: object) -> bool:
    """Return whether a tensor has real numbers, one in each place: it is not sparse, quantised, or without values."""
    if not isinstance(value, Tensor):
        return True
    return value.is_floating_point() and value.layout == torch.strided and not value.is_meta


def _is_finite(value: object) -> bool:
    """Return whether a tensor has only values that float32 can hold; true of those that are not real numbers."""
    return not isinstance(value, Tensor) or not _is_real(value) or bool(torch.isfinite(value.float()).all())


def _shape(value: object) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def _entries(content: object) -> str:
    return f"entries {_listed([str(key) for key in content])}" if isinstance(content, dict) else type(content).__name__


def _description(cohort: Cohort) -> str:
    networks = " + ".join(sorted(set(cohort.names)))
    return f"{cohort.num_peers} × {networks} {'with a shared stem' if cohort.shares_stem else 'without sharing'}"
