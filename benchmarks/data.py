"""Training images a second from a folder, beside a plain DataLoader over ImageFolder with transforms of PIL.

    python -m benchmarks.data [--images 1500] [--size 224] [--readers 1] [--repeats 3] [--folder PATH]

Without --folder, JPEG images of noise, 500 x 375 pixels as ImageNet's are on average, are written to a temporary one.
Prints one JSON line. Both read the same images in the same number of processes, crop, mirror and normalise them.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from benchmarks.record import print_line, ratios
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace
from mcl_ray.config.recipes import imagenet
from mcl_ray.data.sampling import build_sampler
from mcl_ray.data.source import load_dataset
from mcl_ray.distributed import SINGLE_SHARD
from mcl_ray.training.loaders import build_loaders

NUM_CLASSES, BATCH = 10, 64
CPU = torch.device("cpu")


def write_images(root: Path, count: int) -> Path:
    """Smooth noise, which JPEG makes about as large as photographs."""
    rng = np.random.default_rng(0)
    for number in range(count):
        for split in ("train", "val") if number < NUM_CLASSES else ("train",):
            folder = root / split / str(number % NUM_CLASSES)
            folder.mkdir(parents=True, exist_ok=True)
            small = rng.integers(256, size=(75, 100, 3), dtype=np.uint8)
            whole = Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC)
            whole.save(folder / f"{number}.jpg", quality=90)
    return root


def ours(root: Path, size: int, readers: int, results: Path) -> Callable[[int], int]:
    """An epoch of the project's own feed; how many images it gave."""
    spec = replace(imagenet(), {"data.image_size": size, "batch.size": BATCH, "data.unreadable": 0})
    environment = Environment(data=root, results=results, readers=readers)
    dataset = load_dataset(spec.data, environment)
    feed = build_loaders(spec, dataset, environment, CPU)["train"]
    sampler = build_sampler(dataset.train.labels, spec.batch, 0)
    return lambda epoch: sum(len(fed.images) for fed in feed.training(sampler.epoch(epoch), 0, epoch, SINGLE_SHARD))


def plain(root: Path, size: int, readers: int) -> Callable[[int], int]:
    """An epoch as the published code and torch's examples have it."""
    normalise = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    chain = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), transforms.ToTensor(), normalise]
    images = ImageFolder(str(root / "train"), transforms.Compose(chain))
    loader = DataLoader(
        images,
        batch_size=BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=readers,
        persistent_workers=readers > 0,
        multiprocessing_context="forkserver" if readers else None,
    )
    return lambda epoch: sum(len(batch) for batch, _ in loader)  # noqa: ARG005 -- it shuffles by itself


def images_a_second(epoch_of: Callable[[int], int], epoch: int) -> float:
    """Of one epoch."""
    started = time.perf_counter()
    count = epoch_of(epoch)
    return count / (time.perf_counter() - started)


def main() -> None:
    """Measure both in turn, after an epoch each in which the processes start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--readers", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        root = asked.folder or write_images(Path(temporary) / "images", asked.images)
        ways = {
            "ours": ours(root, asked.size, asked.readers, Path(temporary) / "results"),
            "plain": plain(root, asked.size, asked.readers),
        }
        for way in ways.values():
            way(0)
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        for epoch in range(1, asked.repeats + 1):
            for name, way in ways.items():
                speeds[name].append(images_a_second(way, epoch))
    figures = {
        "images_per_s": {name: round(statistics.median(values), 1) for name, values in speeds.items()},
        "ratio": ratios(speeds["ours"], speeds["plain"]),
    }
    print_line("data", {"size": asked.size, "readers": asked.readers} | figures, n=asked.repeats)


if __name__ == "__main__":
    main()
