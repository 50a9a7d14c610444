"""The parts of one run, built on its device, and what happens to them between two epochs: scores and checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from mcl_ray.callbacks import EpochEnd
from mcl_ray.config.environment import Environment
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.dataset import Dataset
from mcl_ray.data.sampling import build_sampler
from mcl_ray.distributed import (
    BatchShards,
    broadcast_buffers,
    gather_values,
    is_rank_zero,
    run_on_rank_zero,
    world_size,
)
from mcl_ray.errors import UnreadableImagesError
from mcl_ray.methods.method import Batch
from mcl_ray.results.schema import EpochRow
from mcl_ray.training.build import build_method, check_stacked_peers, choose_device, describe, place_cohort
from mcl_ray.training.checkpoint import Checkpoint, CheckpointFolder, check_belongs
from mcl_ray.training.compilation import check_compilation, compile_blocks, without_compilation
from mcl_ray.training.evaluate import score
from mcl_ray.training.loaders import build_loaders
from mcl_ray.training.optim import build_optimizer, load_state_of_all_peers, state_of_all_peers
from mcl_ray.training.worker_split import chosen_split
from mcl_ray.worker_layout import layout_of

_log = logging.getLogger(__name__)


class RunState:
    """The parts of one run, built on its device: cohort, optimizer, method, loaders and checkpoints."""

    def __init__(
        self, spec: RunSpec, dataset: Dataset, environment: Environment, checkpoints_folder: Path | None
    ) -> None:
        assert (checkpoints_folder is not None) == is_rank_zero(), "rank 0, and no other, has the checkpoints"
        self.spec, self.environment = spec, environment
        self.device = choose_device(environment.device)
        torch.manual_seed(spec.seed)
        self.layout = layout_of(chosen_split(spec, dataset, environment.parallelism, world_size()))
        check_compilation(spec.compute, self.device)
        check_stacked_peers(spec)
        self.cohort = place_cohort(spec, dataset, self.device, environment.backbone, self.layout)
        if spec.trains_networks:
            compile_blocks(self.cohort, spec.compute)
        self.optimizer = build_optimizer(self.cohort, spec.optimizer)
        self.method = build_method(spec, dataset, self.cohort, self.device, self.layout.batch)
        loaders = build_loaders(spec, dataset, environment, self.device)
        self.train = loaders.pop("train")
        self.held_out = loaders
        self.num_classes, self.image_shape = dataset.num_classes, dataset.image_shape
        self.sampler = build_sampler(dataset.train.labels, spec.batch, spec.seed)
        self.shards = BatchShards(self.sampler.shares(self.layout.batch.size), self.layout.batch)
        self.checkpoints = (
            CheckpointFolder(checkpoints_folder, environment.checkpoints_kept) if checkpoints_folder else None
        )
        self.architecture = describe(spec, dataset)
        self.reported_unreadable: set[str] = set()

    def resume(self) -> EpochEnd | None:
        """Load the newest checkpoint that rank 0 finds, and return its epoch's event; None without a checkpoint."""
        found = run_on_rank_zero(lambda: self.checkpoints.latest() if self.checkpoints is not None else None)
        if found is None:
            return None
        checkpoint, file = found
        check_belongs(checkpoint, file, digests=self.spec.digests, architecture=self.architecture)
        self.cohort.load_state_of_all_peers(checkpoint.cohort)
        load_state_of_all_peers(self.optimizer, self.cohort, checkpoint.optimizer)
        self.method.load_state_dict(checkpoint.method)
        return EpochEnd(
            epoch=checkpoint.epoch,
            rows=[EpochRow(*row) for row in checkpoint.rows],
            checkpoint=file if self.checkpoints is not None else None,
        )

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield this worker's shards of the batches of an epoch, counted from 0."""
        indices = self.sampler.epoch(epoch, self.layout.batch.rank, self.layout.batch.size)
        for loaded in self.train.training(indices, self.spec.seed, epoch, self.shards):
            yield Batch(loaded.images, self.train.labels[loaded.indices], loaded.indices, self.shards)

    def end_epoch(self, epoch: int, figures: Mapping[str, float]) -> EpochEnd:
        """Score the cohort after `epoch`, counted from 1, write a checkpoint if one is due, and return the event.

        Args:
            epoch: Epochs done.
            figures: Metric → value of the epoch's training.
        """
        rows = [EpochRow("cohort", "train", name, value) for name, value in figures.items()]
        rows += self.scores(epoch)
        unreadable = self.unreadable()
        return EpochEnd(epoch=epoch, rows=rows, unreadable=unreadable, checkpoint=self.save(epoch, rows))

    def scores(self, epoch: int) -> list[EpochRow]:
        """Score the splits that are due after `epoch`: validation always, test as the spec says."""
        broadcast_buffers(self.cohort, self.layout.batch)
        when, last = self.spec.evaluation.test, epoch == self.spec.schedule.epochs
        test_is_due = when == "every_epoch" or (when == "at_end" and last)
        due = {split: images for split, images in self.held_out.items() if split == "validation" or test_is_due}
        with without_compilation(self.spec.compute):
            return score(self.spec, self.cohort, self.train, due, self.num_classes, self.layout.batch)

    def unreadable(self) -> tuple[str, ...]:
        """Return the names of the images that did not decode on any worker; rank 0 logs those of other workers.

        Raises:
            UnreadableImagesError: they are more than the spec allows.
        """
        if not self.spec.data.is_encoded:
            return ()
        own, bound = self.train.unreadable, self.spec.data.unreadable
        names = sorted(frozenset[str]().union(*gather_values(own)))
        if is_rank_zero():
            for name in sorted(set(names) - own - self.reported_unreadable):
                _log.warning("another worker skipped an image that does not decode: %s", name)
            self.reported_unreadable |= set(names)
        if len(names) > bound:
            raise UnreadableImagesError(names, bound)
        return tuple(names)

    def save(self, epoch: int, rows: Sequence[EpochRow]) -> Path | None:
        """Write a checkpoint if one is due after `epoch` and this worker writes them; None if not.

        Workers with other peers take part, as it holds those of all.
        """
        is_last = epoch == self.spec.schedule.epochs
        if not is_last and epoch % self.environment.epochs_per_checkpoint:
            return None
        if self.layout.batch.rank > 0:  # the first worker of the batch has the same peers
            return None
        checkpoint = Checkpoint(
            epoch=epoch,
            digest=self.spec.digest,
            architecture=self.architecture,
            cohort=self.cohort.state_of_all_peers(),
            optimizer=state_of_all_peers(self.optimizer, self.cohort),
            method=self.method.state_dict(),
            rows=[tuple(row) for row in rows],
        )
        return None if self.checkpoints is None else self.checkpoints.save(checkpoint)
