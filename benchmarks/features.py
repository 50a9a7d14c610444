"""Benchmark of learned features: two classifiers on the features of a run's networks and of untrained networks.

`python -m benchmarks.features results/runs/moco-… --data images.parquet`

The classifiers are scikit-learn's logistic regression on standardised features, and nearest neighbours among all
training images, both on whole images without augmentation. Accuracies are top-1 in percent on the test split, one for
each peer.
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

# N peers, n images, B images of a batch, F features


class Strength(NamedTuple):
    """Settings of the two classifiers."""

    inverse_penalty: float
    """Parameter C of the regression."""
    neighbours: int
    """Number of nearest neighbours that vote."""


class Features(NamedTuple):
    """Features of the images of one split that decode."""

    values: list[Tensor]
    """Features of each of N peers, [n, F]."""
    labels: Tensor
    """Class of each image, [n]."""


def read(run: Path, environment: Environment, strength: Strength) -> dict[str, dict[str, list[float]]]:
    """Return `trained` and `untrained` → classifier → test top-1 in percent of each peer.

    Raises:
        MclError: the run's networks or its images cannot be read.
    """
    found = find_backbone(run)
    spec = found.pretraining
    if spec is None:
        raise CheckpointError(
            f"a checkpoint must be in the folder of its run, but there is no spec beside {found.file}"
        )
    dataset, device = dataset_for(spec, environment), choose_device(environment.device)
    loaders = build_loaders(spec, dataset, environment, device)
    networks = _untrained(spec, dataset).to(device).eval()
    readings = {"untrained": _readings(networks, spec, dataset, loaders, strength)}
    load_backbone(networks, found.file, found.checksum)
    return {"trained": _readings(networks, spec, dataset, loaders, strength)} | readings


def _untrained(spec: RunSpec, dataset: Dataset) -> Cohort:
    torch.manual_seed(spec.seed)
    return build_backbone(spec.cohort, dataset.image_shape[0])


@torch.inference_mode()
def _readings(
    networks: Cohort, spec: RunSpec, dataset: Dataset, loaders: dict[str, ImageLoader], strength: Strength
) -> dict[str, list[float]]:
    train, test = loaders["train"], loaders["test"]
    batch, bf16 = spec.evaluation.batch_size, spec.compute.precision == "bf16"
    classifier = NearestNeighbours(
        networks,
        train,
        dataset.num_classes,
        neighbours=strength.neighbours,
        num_images=len(train),
        batch_size=batch,
        bf16=bf16,
    )
    by_neighbours = evaluate(classifier, test, batch, networks.num_peers)
    known, queried = (_features(networks, loader, batch, bf16=bf16) for loader in (train, test))
    return {
        "logistic_regression": [
            _regression(known_nF, known.labels, queried_nF, queried.labels, strength)
            for known_nF, queried_nF in zip(known.values, queried.values, strict=True)
        ],
        "nearest_neighbours": [round(by_neighbours["top1", f"peer{i}"], 2) for i in range(networks.num_peers)],
    }


def _features(networks: Cohort, loader: ImageLoader, batch: int, *, bf16: bool) -> Features:
    values: list[list[Tensor]] = []
    labels: list[Tensor] = []
    for images in loader.scoring([slice(start, start + batch) for start in range(0, len(loader), batch)]):
        with torch.autocast(images.images.device.type, dtype=torch.bfloat16, enabled=bf16):
            values.append([of_peer.float().cpu() for of_peer in networks.features(images.images)])
        labels.append(loader.labels[images.indices].cpu())
    return Features([torch.cat(of_peer) for of_peer in zip(*values, strict=True)], torch.cat(labels))


def _regression(
    known_nF: Tensor, known_labels: Tensor, queried_nF: Tensor, queried_labels: Tensor, strength: Strength
) -> float:
    classifier = make_pipeline(
        StandardScaler(), LogisticRegression(C=strength.inverse_penalty, max_iter=MAX_ITERATIONS)
    )
    classifier.fit(known_nF.numpy(), known_labels.numpy())
    return round(100 * cast("float", classifier.score(queried_nF.numpy(), queried_labels.numpy())), 2)


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run, or one of its checkpoints")
    parser.add_argument("--data", type=Path, default=Path("data"), help="images, as given to the run")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the index of images")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--inverse-penalty", type=float, default=0.01, help="parameter C of the regression")
    parser.add_argument("--neighbours", type=int, default=20)
    options = parser.parse_args()
    strength = Strength(options.inverse_penalty, options.neighbours)
    if min(strength) <= 0:
        parser.error(f"--inverse-penalty > 0 and --neighbours > 0 must hold, but got {strength[0]:g} and {strength[1]}")
    try:
        environment = Environment(data=options.data, results=options.results, device=options.device)
        readings = read(options.run, environment, strength)
    except MclError as error:
        parser.error(str(error))
    print_line("features", {"run": options.run.name, **strength._asdict(), "test_top1_percent": readings}, n=1)


if __name__ == "__main__":
    main()
