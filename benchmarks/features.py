"""What the networks of a run have learned: two readings of their features, beside those of untrained networks.

`python -m benchmarks.features results/runs/moco-… --data images.parquet`

A logistic regression of scikit-learn's on standardised features, and the nearest neighbours among all training images,
both of whole images without augmentation. Accuracies are top-1 in percent of the test split, one for each peer.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple, cast

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from benchmarks.record import print_line
from mcl_ray.cohort import Cohort
from mcl_ray.config.environment import Environment
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.dataset import Dataset
from mcl_ray.data.source import dataset_for
from mcl_ray.errors import CheckpointError, MclError
from mcl_ray.linear_probe import build_backbone
from mcl_ray.training.backbone import find_backbone, load_backbone
from mcl_ray.training.build import choose_device
from mcl_ray.training.evaluate import evaluate
from mcl_ray.training.image_loader import ImageLoader
from mcl_ray.training.knn import NearestNeighbours
from mcl_ray.training.loaders import build_loaders

MAX_ITERATIONS = 5000

# N peers, n images, B of a batch, F features


class Strength(NamedTuple):
    """How each classifier is set."""

    inverse_penalty: float
    """C of the regression."""
    neighbours: int


class Features(NamedTuple):
    """Of the images of one split that decode."""

    values: list[Tensor]
    """[N] of [n, F]."""
    labels: Tensor
    """[n]."""


def read(run: Path, environment: Environment, strength: Strength) -> dict[str, dict[str, list[float]]]:
    """`trained` and `untrained` → classifier → percent of each peer.

    Raises:
        MclError: the run's networks or its images cannot be read.
    """
    found = find_backbone(run)
    spec = found.pretraining
    if spec is None:
        raise CheckpointError(f"the features of a run are read, but the spec of {found.file} is not beside it")
    dataset, device = dataset_for(spec, environment), choose_device(environment.device)
    feeds = build_loaders(spec, dataset, environment, device)
    networks = _untrained(spec, dataset).to(device).eval()
    readings = {"untrained": _readings(networks, spec, dataset, feeds, strength)}
    load_backbone(networks, found.file, found.checksum)
    return {"trained": _readings(networks, spec, dataset, feeds, strength)} | readings


def _untrained(spec: RunSpec, dataset: Dataset) -> Cohort:
    torch.manual_seed(spec.seed)
    return build_backbone(spec.cohort, dataset.image_shape[0])


@torch.inference_mode()
def _readings(
    networks: Cohort, spec: RunSpec, dataset: Dataset, feeds: dict[str, ImageLoader], strength: Strength
) -> dict[str, list[float]]:
    train, test = feeds["train"], feeds["test"]
    batch, bf16 = spec.evaluation.batch_size, spec.compute.precision == "bf16"
    vote = NearestNeighbours(
        networks,
        train,
        dataset.num_classes,
        neighbours=strength.neighbours,
        num_images=len(train),
        batch_size=batch,
        bf16=bf16,
    )
    by_neighbours = evaluate(vote, test, batch, networks.num_peers)
    known, asked = (_features(networks, feed, batch, bf16=bf16) for feed in (train, test))
    return {
        "logistic_regression": [
            _regression(known_nF, known.labels, asked_nF, asked.labels, strength)
            for known_nF, asked_nF in zip(known.values, asked.values, strict=True)
        ],
        "nearest_neighbours": [round(by_neighbours["top1", f"peer{i}"], 2) for i in range(networks.num_peers)],
    }


def _features(networks: Cohort, feed: ImageLoader, batch: int, *, bf16: bool) -> Features:
    values: list[list[Tensor]] = []
    labels: list[Tensor] = []
    for fed in feed.scoring([slice(start, start + batch) for start in range(0, len(feed), batch)]):
        with torch.autocast(fed.images.device.type, dtype=torch.bfloat16, enabled=bf16):
            values.append([of_peer.float().cpu() for of_peer in networks.features(fed.images)])
        labels.append(feed.labels[fed.indices].cpu())
    return Features([torch.cat(of_peer) for of_peer in zip(*values, strict=True)], torch.cat(labels))


def _regression(
    known_nF: Tensor, known_labels: Tensor, asked_nF: Tensor, asked_labels: Tensor, strength: Strength
) -> float:
    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(C=strength.inverse_penalty, max_iter=MAX_ITERATIONS)
    )
    classifier.fit(known_nF.numpy(), known_labels.numpy())
    return round(100 * cast("float", classifier.score(asked_nF.numpy(), asked_labels.numpy())), 2)


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="its folder, or one of its checkpoints")
    parser.add_argument("--data", type=Path, default=Path("data"), help="its images, as the run was given them")
    parser.add_argument("--results", type=Path, default=Path("results"), help="where the index of images is kept")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--inverse-penalty", type=float, default=0.01, help="C of the regression")
    parser.add_argument("--neighbours", type=int, default=20)
    asked = parser.parse_args()
    strength = Strength(asked.inverse_penalty, asked.neighbours)
    if min(strength) <= 0:
        parser.error(f"--inverse-penalty > 0 and --neighbours > 0 must hold, but got {strength[0]:g} and {strength[1]}")
    try:
        readings = read(asked.run, Environment(data=asked.data, results=asked.results, device=asked.device), strength)
    except MclError as error:
        parser.error(str(error))
    print_line("features", {"run": asked.run.name, **strength._asdict(), "test_top1_percent": readings}, n=1)


if __name__ == "__main__":
    main()
