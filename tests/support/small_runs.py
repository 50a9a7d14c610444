"""Runs of a method on small pictures: whole ones, ones that end early, and what a single step is made of."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch

from mcl_ray import distributed
from mcl_ray.config import recipes
from mcl_ray.config.environment import Environment
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.sampling import build_sampler
from mcl_ray.data.source import dataset_for
from mcl_ray.errors import MclError
from mcl_ray.methods.method import Batch
from mcl_ray.results.store import RunWriter, find_run
from mcl_ray.training.build import build_method, place_cohort
from mcl_ray.training.checkpoint import Checkpoint, CheckpointFolder
from mcl_ray.training.loaders import build_loaders
from mcl_ray.training.optim import build_optimizer
from mcl_ray.training.recorded_run import iter_recorded_run, train_recorded_run
from mcl_ray.training.worker_split import chosen_split
from mcl_ray.worker_layout import layout_of

CPU = torch.device("cpu")
SMALL = ("networks=resnet8", "image_size=16", "batch.size=6", "epochs=4", "schedule.kind=cosine", "milestones=[]")
METHODS = {
    "supervised": (recipes.imagenet, "method=supervised", "logit_distillation=all"),
    "supervised_bank": (recipes.imagenet, "negatives=12", "logit_distillation=reference"),
    "moco": (recipes.moco, "queue.keys=20", "neighbours=5"),
    "linear": (recipes.lincls, "linear.backbone=random"),
}
"""Recipe of each method, with fields for small pictures; to be changed by those of `SMALL`, too."""


def train(spec: RunSpec, folder: Path, results: Path, epochs: int | None = None) -> RunWriter:
    """Start or resume a run, to its end or until it is interrupted after so many epochs."""
    local = Environment(data=folder, results=results, readers=0, threads=1)
    dataset, writer = dataset_for(spec, local), RunWriter.begin(results, "r", spec)
    if epochs is None:
        train_recorded_run(spec, dataset, local, writer)
    else:
        run = iter_recorded_run(spec, dataset, local, writer)
        for _ in range(epochs):
            next(run)
        with pytest.raises(KeyboardInterrupt):
            run.throw(KeyboardInterrupt())
    return writer


def newest(writer: RunWriter) -> Checkpoint:
    """Return the checkpoint that a run would resume from."""
    checkpoint, _ = CheckpointFolder(writer.checkpoints).latest()
    return checkpoint


def replace_newest(writer: RunWriter, checkpoint: Checkpoint) -> None:
    """Make a run resume from another checkpoint of the same epoch."""
    (file, *_) = sorted(writer.checkpoints.glob(f"epoch-{checkpoint.epoch:04d}-*"))
    file.unlink()
    CheckpointFolder(writer.checkpoints).save(checkpoint)


class Parts:
    """What a run is made of, with its batches; in a group of workers, this worker's."""

    def __init__(
        self, spec: RunSpec, folder: Path, parallelism: str = "data", dtype: torch.dtype = torch.float32
    ) -> None:
        local = Environment(data=folder, results=folder.parent / "results", readers=0)
        self.spec, self.dtype, dataset = spec, dtype, dataset_for(spec, local)
        self.layout = layout_of(chosen_split(spec, dataset, parallelism, distributed.world_size()))
        torch.manual_seed(spec.seed)
        self.cohort = place_cohort(spec, dataset, CPU, layout=self.layout).to(dtype)
        self.method = build_method(spec, dataset, self.cohort, CPU, self.layout.batch)
        self.optimizer = build_optimizer(self.cohort, spec.optimizer)
        self.feed = build_loaders(spec, dataset, local, CPU)["train"]
        self.sampler = build_sampler(dataset.train.labels, spec.batch, spec.seed)
        self.method.on_epoch_start(spec.seed, 0)

    def batches(self, count: int) -> Iterator[Batch]:
        """The first ones of the first epoch."""
        workers = self.layout.batch
        shares, indices = (
            distributed.BatchShards(self.sampler.shares(workers.size), workers),
            self.sampler.epoch(0, workers.rank, workers.size),
        )
        for fed in islice(self.feed.training(indices, self.spec.seed, 0, shares), count):
            yield Batch(fed.images.to(self.dtype), self.feed.labels[fed.indices], fed.indices, shares)

    def step(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Learn from a batch; the losses, as means over the workers."""
        losses = self.method.losses(batch)
        self.optimizer.zero_grad()
        losses.total.backward()
        self.cohort.sum_shared_gradients()
        self.optimizer.step()
        self.method.after_optimizer_step()
        return {name: distributed.all_reduce_mean_(value.detach().clone()) for name, value in losses.terms.items()}


def train_some_epochs(root: Path, spec: RunSpec, environment: Environment, num_epochs: int) -> list[object]:
    """Begin or go on with a run, whichever workers began it; the figures of each epoch, or the error."""
    writer = None
    if distributed.is_rank_zero():
        folder = find_run(root, spec) if root.is_dir() else None
        writer = RunWriter.resume(folder) if folder else RunWriter.create(root, spec)
    run, outcomes = iter_recorded_run(spec, dataset_for(spec, environment), environment, writer), []
    try:
        for epoch in islice(run, num_epochs):
            outcomes.append((epoch.epoch, figures(epoch.rows)))  # noqa: PERF401 -- as far as it comes
        run.close()
    except MclError as error:
        return [type(error).__name__, str(error)]
    return outcomes


def figures(rows) -> dict[tuple[str, str, str], float]:
    """Those that are not of the wall clock."""
    return {tuple(row[:3]): row.value for row in rows if row.metric not in ("epoch_time_s", "images_per_s")}
