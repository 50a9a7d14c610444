"""The two samplers side by side: how much of the images an epoch sees, and the accuracy that follows, seed by seed.

    python -m benchmarks.sampler [--seeds 3]

Prints one JSON line: the digits recipe with either sampler, and coverage on labels shaped like CIFAR-100's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.record import print_line
from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import replace
from mcl_ray.config.spec import BatchSpec
from mcl_ray.data.sampling import ClassBalancedSampler
from mcl_ray.data.source import dataset_for
from mcl_ray.training.loop import iter_epochs

SAMPLERS = ("reference", "balanced")


def coverage(sampler: str) -> float:
    """Share of 100 × 500 images that one epoch of batches of 64 × 2 sees, in percent."""
    labels = np.repeat(np.arange(100), 500)
    batches = ClassBalancedSampler(labels, BatchSpec(sampler=sampler), seed=0).epoch(0)  # type: ignore[arg-type]
    return 100 * len(np.unique(batches)) / len(labels)


def accuracy(sampler: str, seed: int) -> float:
    """Test top-1 of the digits recipe, mean of peers at the last epoch, in percent."""
    spec = replace(recipes.digits(), {"batch.sampler": sampler, "seed": seed})
    environment = Environment(threads=torch.get_num_threads())
    with tempfile.TemporaryDirectory() as folder:
        *_, last = iter_epochs(spec, dataset_for(spec, environment), environment, Path(folder))
    return next(r.value for r in last.rows if (r.split, r.metric, r.member) == ("test", "top1", "mean"))


def main() -> None:
    """Measure both samplers with the same seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    torch.set_num_threads(1)
    scores = {sampler: [accuracy(sampler, seed) for seed in seeds] for sampler in SAMPLERS}
    figures = {
        "images_seen_percent": {sampler: round(coverage(sampler), 2) for sampler in SAMPLERS},
        "digits_test_top1_percent": {
            sampler: {
                "mean": round(statistics.mean(values), 2),
                "std": round(statistics.stdev(values), 2) if len(values) > 1 else None,
                "each": [round(value, 2) for value in values],
            }
            for sampler, values in scores.items()
        },
    }
    print_line("sampler", figures, n=len(seeds))


if __name__ == "__main__":
    main()
