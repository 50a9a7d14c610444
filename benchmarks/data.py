"""Benchmark of training images per second from a folder, against a DataLoader over ImageFolder with PIL transforms.

    python -m benchmarks.data [--images 1500] [--size 224] [--readers 1] [--repeats 3] [--folder PATH]

Without --folder, JPEG images of noise are written to a temporary folder, of 500 x 375 pixels, the average of ImageNet.
Prints one JSON line. Both read the same images in the same number of processes, and crop, flip and normalise them.
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
    """Write images of smooth noise, whose JPEG files are about as large as those of photographs."""
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
    """Return a function that reads an epoch with this project's loaders, and returns the number of images."""
    spec = replace(imagenet(), {"data.image_size": size, "batch.size": BATCH, "data.unreadable": 0})
    environment = Environment(data=root, results=results, readers=readers)
    dataset = load_dataset(spec.data, environment)
    loader = build_loaders(spec, dataset, environment, CPU)["train"]
    sampler = build_sampler(dataset.train.labels, spec.batch, 0)
    return lambda epoch: sum(
        len(batch.images) for batch in loader.training(sampler.epoch(epoch), 0, epoch, SINGLE_SHARD)
    )


def plain(root: Path, size: int, readers: int) -> Callable[[int], int]:
    """Return a function that reads an epoch like the published code and torch's examples."""
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
    return lambda epoch: sum(len(batch) for batch, _ in loader)  # noqa: ARG005 -- the loader shuffles by itself


def images_a_second(epoch_of: Callable[[int], int], epoch: int) -> float:
    """Return the images per second of one epoch."""
    started = time.perf_counter()
    count = epoch_of(epoch)
    return count / (time.perf_counter() - started)


def main() -> None:
    """Measure both in turns, after one epoch of each in which the processes start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--readers", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        root = options.folder or write_images(Path(temporary) / "images", options.images)
        ways = {
            "ours": ours(root, options.size, options.readers, Path(temporary) / "results"),
            "plain": plain(root, options.size, options.readers),
        }
        for way in ways.values():
            way(0)
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        for epoch in range(1, options.repeats + 1):
            for name, way in ways.items():
                speeds[name].append(images_a_second(way, epoch))
    figures = {
        "images_per_s": {name: round(statistics.median(values), 1) for name, values in speeds.items()},
        "ratio": ratios(speeds["ours"], speeds["plain"]),
    }
    print_line("data", {"size": options.size, "readers": options.readers} | figures, n=options.repeats)


if __name__ == "__main__":
    main()
