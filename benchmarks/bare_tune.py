"""The straightforward search by random sampling: bare Ray Tune, with the straightforward training step.

It keeps the scores that Tune keeps, and has neither records, checkpoints nor anything else of this project's sweeps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainables.cluster.connect import connect  # isort: skip -- sets Ray's environment
import torch
from ray import tune
from torch import Tensor

from benchmarks import evident
from mcl_ray.cohort import Cohort, build_cohort
from mcl_ray.config.environment import Environment
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.config.overrides import replace
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.augment import Augment, epoch_generator
from mcl_ray.data.dataset import Dataset, ImageSet
from mcl_ray.data.sampling import build_sampler
from mcl_ray.data.source import load_dataset
from mcl_ray.training.optim import learning_rate, set_learning_rate
from searches.spec import search_registry
from searches.spec.space import FloatRange

EXECUTION = ExecutionOptions(device="cpu")
"""One core and one thread for each trial; as many trials at once as there are cores."""
CPU = torch.device("cpu")


def search(trials: int, folder: Path) -> list[int]:
    """Train the digits recipe with random weights, and return the epochs of each trial that completed.

    Args:
        trials: Number of trials.
        folder: Folder for what Tune keeps.
    """
    sweep = search_registry.digits()
    dataset = load_dataset(sweep.run.data, Environment(results=folder))
    weights = {path: each for path, each in sweep.space.items() if isinstance(each, FloatRange)}
    with connect(EXECUTION):
        trainable = tune.with_parameters(train, run=sweep.run, dataset=dataset)
        results = tune.Tuner(
            tune.with_resources(trainable, {"CPU": EXECUTION.cpus_per_worker}),
            param_space={path: tune.uniform(each.low, each.high) for path, each in weights.items()},
            tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=True),
            run_config=tune.RunConfig(name="tune", storage_path=str(folder), verbose=0),
        ).fit()
    trained = [results[index] for index in range(len(results))]
    return [int(result.metrics["epoch"]) for result in trained if result.metrics and result.error is None]


def train(config: dict[str, Any], run: RunSpec, dataset: Dataset) -> None:
    """Train one configuration, and report the mean of its losses and its accuracy after each epoch."""
    torch.set_num_threads(EXECUTION.cpus_per_worker)
    spec = replace(run, config)
    torch.manual_seed(spec.seed)
    cohort = build_cohort(spec.cohort, dataset.num_classes, dataset.image_shape[0])
    optimizer = torch.optim.SGD(
        cohort.parameters(),
        lr=spec.optimizer.lr,
        momentum=spec.optimizer.momentum,
        nesterov=spec.optimizer.nesterov,
        weight_decay=spec.optimizer.weight_decay,
    )
    augment = Augment(dataset.mean, dataset.std, spec.augmentation.crop_padding, spec.augmentation.flip)
    images, labels = _tensors(dataset.train)
    held_out = _tensors(dataset.validation)
    sampler = build_sampler(labels.numpy(), spec.batch, spec.seed)
    for epoch in range(spec.schedule.epochs):
        set_learning_rate(optimizer, learning_rate(spec.optimizer.lr, spec.schedule, epoch))
        generator = epoch_generator(spec.seed, epoch, CPU)
        cohort.train()
        losses = [
            evident.step(cohort, optimizer, augment(images[indices], generator), labels[indices], spec.losses)["loss"]
            for indices in torch.from_numpy(sampler.epoch(epoch))
        ]
        top1 = _top1(cohort, augment.normalise(held_out[0]), held_out[1])
        tune.report({"epoch": epoch + 1, "loss": sum(losses) / len(losses), "top1": top1})


def _tensors(images: object) -> tuple[Tensor, Tensor]:
    """Return the images of a split, uint8 [n, C, H, W], and their labels, [n]."""
    assert isinstance(images, ImageSet), "those of the digits are in memory"
    return torch.from_numpy(images.images), torch.from_numpy(images.labels)


@torch.no_grad()
def _top1(cohort: Cohort, images: Tensor, labels: Tensor) -> float:
    """Return the accuracy of the mean of peers, in percent."""
    cohort.eval()
    return 100 * float((cohort.logits(images).argmax(-1) == labels).float().mean())
