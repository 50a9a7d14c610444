"""Encoders in checkpoints of other codes: MoCo, MoCo v3, MCL, lightly, solo-learn, timm, torchvision, and plain ones.

The encoder is found by the names of its tensors; `interop` checks whether it is the cohort's network. No code in a
file is executed.

A checkpoint is one file of torch or of safetensors, or the index of several files of safetensors, as Hugging Face
writes them: `model.safetensors.index.json` names for each tensor the file beside it, a shard, that has it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcl_ray.errors import CheckpointError

ENTRIES = (
    *("state_dict", "model", "model_state_dict", "model_state", "net", "network", "encoder", "backbone"),
    *("student", "module", "checkpoint"),
)
"""Entries of checkpoints that hold the state dict, or another one of these entries."""
TENSORS, INDEX = ".safetensors", ".safetensors.index.json"
"""Ends of the names of a file of safetensors, and of the index of several."""
MAX_DEPTH = 3
"""Maximum number of entries above the state dict."""
_WRAPPERS = re.compile(r"(?<![^.])(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Parts of names that DataParallel, torch.compile and others add, at any depth."""
_MOMENTUM = re.compile(r"(^|[._])(momentum|teacher|target|ema|key|k)([._]|$)")
"""Parts of names of networks that follow another one, and are not trained themselves."""
_PEER = re.compile(r"(?:encoder_q_|module_list\.)(\d+)\.")
_FIRST = re.compile(r"(|.*?\.)(?:conv1|features\.conv0)\.weight")
_SEQUENTIAL = re.compile(r"(|.*?\.)4\.0\.conv1\.weight")
_HEADS = frozenset({"fc", "classifier", "head", "linear", "last_linear", "projection_head", "prototypes"})
_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""Position in a Sequential of a ResNet's children, as of lightly → name in torchvision."""
_PLAIN: list[Callable[..., Any]] = [
    argparse.Namespace,
    np.dtype,
    np.ndarray,
    np.float64,
    np.float32,
    np.int64,
    np.bool_,
]
_PLAIN += [type(np.dtype(code)) for code in ("f8", "f4", "i8", "b1")]


def read_encoders(file: Path) -> dict[int, dict[str, Tensor]]:
    """Return the tensors of each encoder without its head, by peer.

    Args:
        file: a file of safetensors, the index of several, or a file that torch wrote.

    Raises:
        CheckpointError: the file cannot be read, or holds no encoder, or several that are not peers.
    """
    state: dict[str, Tensor] = {}
    for name, tensor in _state_dict(file).items():
        plain = _WRAPPERS.sub("", name)
        if plain in state:
            raise CheckpointError(
                f"a checkpoint must hold each tensor once, but {file} has {plain} twice, as {name} too"
            )
        state[plain] = tensor
    roots = [root for root in _roots(state) if not _MOMENTUM.search(root)]
    if not roots:
        raise CheckpointError(
            f"--from requires a run, one of its checkpoints, or a checkpoint with the tensors of an encoder "
            f"(conv1.weight, encoder_q.conv1.weight, backbone.conv1.weight …), but {file} is none of them"
        )
    matches = [_PEER.fullmatch(root) for root in roots]
    peers = {int(match[1]): root for match, root in zip(matches, roots, strict=True) if match} or {0: roots[0]}
    if len(peers) < len(roots):
        raise CheckpointError(
            f"a checkpoint must hold one encoder, or numbered ones, but {file} has {', '.join(sorted(roots))}"
        )
    if sorted(peers) != list(range(len(peers))):
        raise CheckpointError(f"query encoders must be numbered from 0, but {file} has {sorted(peers)}")
    return {peer: _encoder(state, root) for peer, root in sorted(peers.items())}


def checkpoint_in(folder: Path) -> Path | None:
    """Return the checkpoint of safetensors in a folder: its index, or its only file; None if there is none.

    Raises:
        CheckpointError: there are several, or the folder cannot be read.
    """
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise CheckpointError(f"cannot read the folder {folder} of a checkpoint: {error.strerror}") from error
    found = [name for name in names if name.endswith(INDEX)] or [name for name in names if name.endswith(TENSORS)]
    if len(found) > 1:
        raise CheckpointError(
            f"a folder must hold one checkpoint of safetensors, but {folder} has {', '.join(found)}; name one of them"
        )
    return folder / found[0] if found else None


def shards_of(file: Path) -> dict[Path, list[str]]:
    """Return shard → names of its tensors, in the order of the shards' names, of an index; none of another checkpoint.

    Raises:
        CheckpointError: the index cannot be read, names a file that is not in its folder, or a shard is missing.
    """
    if not file.name.endswith(INDEX):
        return {}
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} must be an index of shards, but cannot be read: {error}") from error
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(place, str) for place in places.values()):
        raise CheckpointError(f"{file} must be an index of shards, with a weight_map of tensors to files, but has none")
    shards: dict[Path, list[str]] = {}
    for place in sorted(set(places.values())):
        path = PurePosixPath(place)
        if path.is_absolute() or ".." in path.parts or path.suffix != TENSORS:
            raise CheckpointError(
                f"a shard must be a file *{TENSORS} in the folder of its index, but {file} has {place!r}"
            )
        if not os.path.isfile(file.parent / path):  # noqa: PTH113 -- false of any name that no file can have
            raise CheckpointError(f"a checkpoint must have all of its shards, but {place!r} of {file} is missing")
        shards[file.parent / path] = [name for name, of in places.items() if of == place]
    return shards


def _state_dict(file: Path) -> Mapping[str, Tensor]:
    content = _read(file)
    for _ in range(MAX_DEPTH):
        if isinstance(content, Mapping):
            content = next((content[entry] for entry in ENTRIES if isinstance(content.get(entry), Mapping)), content)
    tensors = content.items() if isinstance(content, Mapping) else ()
    return {str(name): tensor for name, tensor in tensors if isinstance(tensor, Tensor)}


def _read(file: Path) -> object:
    shards = shards_of(file)
    if shards:
        return {name: tensor for shard, names in shards.items() for name, tensor in _read_shard(shard, names).items()}
    return _read_file(file)


def _read_shard(shard: Path, names: Sequence[str]) -> dict[str, object]:
    content = _read_file(shard)
    assert isinstance(content, dict), "as a file of safetensors"
    absent = [name for name in names if name not in content]
    if absent:
        raise CheckpointError(f"a shard must hold the tensors that its index names, but {shard} lacks {absent[0]}")
    return {name: content[name] for name in names}


def _read_file(file: Path) -> object:
    try:
        if file.suffix.lower() == TENSORS:
            from safetensors.torch import load_file  # only these files need it

            return load_file(file)
        with torch.serialization.safe_globals(_safe_globals()):
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise almost any exception
        raise CheckpointError(
            f"--from requires a run, one of its checkpoints, or another code's checkpoint, but torch cannot read "
            f"{file} without running code in it ({type(error).__name__})"
        ) from error


def _safe_globals() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """Return what a file may construct besides tensors: arguments of a command, and numpy's scalars."""
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    return [*_PLAIN, scalar, (scalar, "numpy.core.multiarray.scalar")]


def _roots(state: Mapping[str, Tensor]) -> list[str]:
    """Return the prefixes below which there is an encoder; a block of an encoder is none of its own."""
    found = {match[1] for name in state if (match := _SEQUENTIAL.fullmatch(name) or _FIRST.fullmatch(name))}
    roots: list[str] = []
    for root in sorted(found, key=len):
        if not any(root.startswith(other) for other in roots):
            roots.append(root)
    return roots


def _encoder(state: Mapping[str, Tensor], root: str) -> dict[str, Tensor]:
    inside = {name.removeprefix(root): tensor for name, tensor in state.items() if name.startswith(root)}
    if "4.0.conv1.weight" in inside:
        parts = {name: name.partition(".") for name in inside}
        inside = {
            f"{_CHILDREN[first]}.{rest}": inside[name] for name, (first, _, rest) in parts.items() if first in _CHILDREN
        }
    return {name: tensor for name, tensor in inside.items() if name.partition(".")[0] not in _HEADS}
