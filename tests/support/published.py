"""The published networks as the reference folder records them, and the rule that fills their weights."""

from __future__ import annotations

import json
import zlib
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mcl_ray.config.registry import NETWORKS, published_networks

CIFAR_NETWORKS, IMAGENET_NETWORKS = published_networks("cifar"), published_networks("imagenet")
IMAGE_SHAPE = {"cifar": (3, 32, 32), "imagenet": (3, 224, 224)}
NUM_CLASSES = {"cifar": 100, "imagenet": 1000}


class PublishedCase(NamedTuple):
    parameters: int
    multiply_adds: int
    embedding_dim: list[int]
    shapes: dict[str, list[int]]
    logits: Tensor
    features: Tensor


@lru_cache
def _entries(reference_dir: Path) -> dict[str, dict]:
    return json.loads((reference_dir / "models.json").read_text())


def read_case(reference_dir: Path, network: str, num_peers: int) -> PublishedCase:
    key = f"{NETWORKS[network].regime}/{NETWORKS[network].published_name}/x{num_peers}"
    entry = _entries(reference_dir)[key]
    with np.load(reference_dir / "model_forwards.npz") as arrays:
        logits, features = (torch.tensor(arrays[f"{key}/{quantity}"]) for quantity in ("logits", "embeddings"))
    shapes = dict(entry["state_dict"])
    assert len(shapes) == len(entry["state_dict"])
    return PublishedCase(entry["parameters"], entry["multiply_adds"], entry["embedding_dim"], shapes, logits, features)


def fill(name: str, shape: list[int]) -> Tensor:
    """A tensor by the rule of the reference folder; `name` is the published one."""
    r = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("running_var"):
        r = np.exp(0.3 * r)
    elif name.endswith("running_mean"):
        r = 0.1 * r
    elif len(shape) >= 2:
        r = r * np.sqrt(1 / (r.size / shape[0]))
    elif name.endswith("weight"):
        r = 1 + 0.2 * r
    else:
        r = 0.1 * r
    return torch.tensor(r.astype(np.float32))


def images(shape: tuple[int, int, int]) -> Tensor:
    return torch.tensor(np.random.RandomState(20220222).standard_normal((2, *shape)).astype(np.float32))
