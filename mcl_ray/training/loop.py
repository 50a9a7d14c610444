"""The training loop, in full view.

What a run needs goes in as a spec, an environment and a data set; what happens comes out epoch by epoch. The loop knows
neither results files nor Ray. Several workers go through it in step, each with its part of every batch.

N peers, B images.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

from mcl_ray.config.environment import Environment
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.dataset import Dataset
from mcl_ray.data.sampling import build_sampler
from mcl_ray.distributed import (
    BatchShards,
    broadcast_buffers,
    gather_values,
    is_rank_zero,
    rank,
    run_on_rank_zero,
    world_size,
)
from mcl_ray.errors import UnreadableImagesError
from mcl_ray.methods.method import Batch
from mcl_ray.results.store import EpochRow
from mcl_ray.training.build import build_method, choose_device, describe, place_cohort
from mcl_ray.training.checkpoint import Checkpoint, CheckpointFolder, check_belongs
from mcl_ray.training.evaluate import score
from mcl_ray.training.loaders import build_loaders
from mcl_ray.training.metrics import StepMeter
from mcl_ray.training.optim import build_optimizer, learning_rate, set_learning_rate

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """What one epoch yields."""

    epoch: int
    """Epochs done, from 1."""
    rows: list[EpochRow]
    unreadable: tuple[str, ...] = ()
    """Names of the images that no worker could decode, of all epochs since the run was begun or resumed."""


class Told(NamedTuple):
    """What the loop tells at the end of each epoch; told again for the epoch that a run resumes from."""

    report: EpochReport
    """The same on every worker, but for the wall clock."""
    checkpoint: Path | None
    """The file written after this epoch, if this worker wrote one."""


class Report(Protocol):
    """Somebody who is told."""

    def __call__(self, epoch: EpochReport, checkpoint: Path | None) -> None:
        """Take note of what `Told` holds."""


class Heartbeat(Protocol):
    """What the loop tells between epochs, once per log interval."""

    def __call__(self, *, epoch: int, step: int, steps: int, losses: dict[str, float]) -> None:
        """Step `step` of `steps` of `epoch` is done; `losses` are means over the epoch so far."""


def silent(*, epoch: int, step: int, steps: int, losses: dict[str, float]) -> None:
    """The heartbeat that nobody listens to."""


def iter_epochs(
    spec: RunSpec,
    dataset: Dataset,
    environment: Environment,
    folder: Path | None,
    heartbeat: Heartbeat = silent,
) -> Iterator[Told]:
    """Train the cohort of `spec`, from the newest checkpoint under `folder` if there is one, and tell every epoch.

    Between two epochs nothing runs, and an epoch draws nothing from torch's global generator, so that several runs can
    be trained in turn. Workers that share a run all have to go on or all to stop.

    Args:
        spec: What to train.
        dataset: The images.
        environment: Where to train.
        folder: Where checkpoints are; None on workers after the first, which get what the first one reads.
        heartbeat: Is told how an epoch comes along.

    Yields:
        First the epoch that the run resumes from, once more, as it may not have been heard of; then each as it ends.

    Raises:
        NonFiniteLossError: a loss became NaN or infinite.
        CheckpointError: the checkpoints under `folder` are damaged or belong to another spec.
        UnreadableImagesError: more images do not decode than the spec allows.
    """
    run = RunState(spec, dataset, environment, folder)
    resumed = run.resume()
    if resumed is not None:
        yield resumed
    for epoch in range(resumed.report.epoch if resumed else 0, spec.schedule.epochs):
        started = time.perf_counter()
        rate = learning_rate(spec.optimizer.lr, spec.schedule, epoch)
        set_learning_rate(run.optimizer, rate)
        run.method.on_epoch_start(spec.seed, epoch)
        steps, meter = run.sampler.num_batches, StepMeter(environment.steps_per_log, run.device)

        for step, batch in enumerate(run.batches(epoch), start=1):
            losses = run.method.losses(batch)
            run.optimizer.zero_grad(set_to_none=True)
            losses.total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            run.optimizer.step()
            run.method.after_optimizer_step()

            if meter.record(losses.terms | {"loss": losses.total}) or step == steps:
                meter.read(epoch + 1)
                heartbeat(epoch=epoch + 1, step=step, steps=steps, losses=meter.means())
        run.method.on_epoch_end()

        seconds = time.perf_counter() - started
        speed = {"lr": rate, "epoch_time_s": seconds, "images_per_s": steps * run.shares.whole / seconds}
        rows = [EpochRow("cohort", "train", name, value) for name, value in (meter.means() | speed).items()]
        rows += run.scores(epoch + 1)
        finished = EpochReport(epoch=epoch + 1, rows=rows, unreadable=run.unreadable())
        yield Told(finished, run.save(finished))


class RunState:
    """The parts of one run, put together on its device."""

    def __init__(self, spec: RunSpec, dataset: Dataset, environment: Environment, folder: Path | None) -> None:
        assert (folder is not None) == is_rank_zero(), "one worker has the checkpoints"
        self.spec, self.environment = spec, environment
        self.device = choose_device(environment.device)
        self.bf16 = spec.compute.precision == "bf16"
        torch.manual_seed(spec.seed)
        self.cohort = place_cohort(spec, dataset, self.device, environment.backbone)
        self.optimizer = build_optimizer(self.cohort, spec.optimizer)
        self.method = build_method(spec, dataset, self.cohort, self.device)
        feeds = build_loaders(spec, dataset, environment, self.device)
        self.train = feeds.pop("train")
        self.held_out = feeds
        self.num_classes = dataset.num_classes
        self.sampler = build_sampler(dataset.train.labels, spec.batch, spec.seed)
        self.shares = BatchShards(self.sampler.shares(world_size()))
        self.checkpoints = CheckpointFolder(folder, environment.checkpoints_kept) if folder is not None else None
        self.architecture = describe(spec, dataset)
        self.told: set[str] = set()

    def resume(self) -> Told | None:
        """Take up the newest checkpoint, as the first worker finds it, and tell its epoch once more."""
        found = run_on_rank_zero(lambda: self.checkpoints.latest() if self.checkpoints is not None else None)
        if found is None:
            return None
        checkpoint, file = found
        check_belongs(checkpoint, file, digest=self.spec.digest, architecture=self.architecture)
        self.cohort.load_state_dict(checkpoint.cohort)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.method.load_state_dict(checkpoint.method)
        told = EpochReport(epoch=checkpoint.epoch, rows=[EpochRow(*row) for row in checkpoint.rows])
        return Told(told, file if self.checkpoints is not None else None)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """This worker's part of the batches of an epoch, counted from 0."""
        indices = self.sampler.epoch(epoch, rank(), world_size())
        for fed in self.train.training(indices, self.spec.seed, epoch, self.shares):
            yield Batch(fed.images, self.train.labels[fed.indices], fed.indices, self.shares)

    def scores(self, epoch: int) -> list[EpochRow]:
        """Score the splits that are due after `epoch`: validation always, test as the spec says."""
        broadcast_buffers(self.cohort)
        when, last = self.spec.evaluation.test, epoch == self.spec.schedule.epochs
        test_is_due = when == "every_epoch" or (when == "at_end" and last)
        due = {split: images for split, images in self.held_out.items() if split == "validation" or test_is_due}
        return score(self.spec, self.cohort, self.train, due, self.num_classes)

    def unreadable(self) -> tuple[str, ...]:
        """Names of the images that did not decode, on any worker.

        Raises:
            UnreadableImagesError: they are more than the spec allows.
        """
        if not self.spec.data.is_encoded:
            return ()
        own, bound = self.train.unreadable, self.spec.data.unreadable
        names = sorted(frozenset[str]().union(*gather_values(own)))
        if is_rank_zero():
            for name in sorted(set(names) - own - self.told):
                _log.warning("another worker skipped an image that does not decode: %s", name)
            self.told |= set(names)
        if len(names) > bound:
            raise UnreadableImagesError(names, bound)
        return tuple(names)

    def save(self, finished: EpochReport) -> Path | None:
        """Write a checkpoint if one is due, and if it is for this worker to write."""
        last = finished.epoch == self.spec.schedule.epochs
        if self.checkpoints is None:
            return None
        if not last and finished.epoch % self.environment.epochs_per_checkpoint:
            return None
        return self.checkpoints.save(
            Checkpoint(
                epoch=finished.epoch,
                digest=self.spec.digest,
                architecture=self.architecture,
                cohort=self.cohort.state_dict(),
                optimizer=self.optimizer.state_dict(),
                method=self.method.state_dict(),
                rows=[tuple(row) for row in finished.rows],
            )
        )
