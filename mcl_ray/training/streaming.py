"""Images that are read, decoded and augmented by other processes while the device trains.

torch's DataLoader has the processes and the queue between; what they do is `mcl_ray.data.views`.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from mcl_ray.config.spec import AugmentationSpec
from mcl_ray.data.augment import Augment
from mcl_ray.data.encoded import EncodedSet
from mcl_ray.data.views import Reader, Request, Views
from mcl_ray.distributed import BatchShards
from mcl_ray.errors import UnreadableImagesError
from mcl_ray.training.image_loader import ImageBatch

BATCHES_AHEAD = 4
"""Batches that each reader has ready, or is at work on."""
_log = logging.getLogger(__name__)


class ReaderWorkers:
    """The processes that read, the same for all splits, from the first batch that is wanted to the end of the run.

    Args:
        splits: what there is to read.
        augmentation: what happens to training images.
        count: of processes; 0 reads in this one, while the device waits.
        pin: whether batches are put where a GPU can fetch them by itself.
        num_views: of each training image.
        unreadable: how many images may turn out not to decode.
    """

    def __init__(
        self,
        splits: dict[str, EncodedSet],
        augmentation: AugmentationSpec,
        *,
        count: int,
        pin: bool,
        unreadable: int,
        num_views: int = 1,
    ) -> None:
        self._wanted: list[Request] = []
        self._unreadable: set[str] = set()
        self._bound = unreadable
        self._loader = DataLoader(
            Reader(splits, augmentation, num_views),
            sampler=_Requests(self._wanted),
            generator=torch.Generator(),  # else each epoch would draw from the one of the weights
            batch_size=None,
            num_workers=count,
            pin_memory=pin,
            prefetch_factor=BATCHES_AHEAD if count else None,
            persistent_workers=count > 0,
            multiprocessing_context="forkserver" if count else None,  # to fork a process with threads is not safe
            worker_init_fn=_end_with_training,
        )

    @property
    def unreadable(self) -> frozenset[str]:
        """Names of the images that did not decode so far."""
        return frozenset(self._unreadable)

    def read(self, requests: list[Request]) -> Iterator[Views]:
        """The batches in the order in which they are wanted.

        Raises:
            UnreadableImagesError: more images do not decode than the spec allows.
        """
        self._wanted[:] = requests
        for views in self._loader:
            self._note(views.unreadable)
            yield views

    def _note(self, names: list[str]) -> None:
        for name in names:
            if name not in self._unreadable:
                self._unreadable.add(name)
                _log.warning("skipped an image that does not decode: %s", name)
        if len(self._unreadable) > self._bound:
            raise UnreadableImagesError(sorted(self._unreadable), self._bound)


def _end_with_training(_: int) -> None:
    """Have a reader end when the process that trains does, by whatever signal.

    torch's readers look whether their parent lives. That is the fork server, which lives as long as they do.
    """
    training = multiprocessing.parent_process()
    assert training is not None, "a reader is somebody's"

    def end() -> None:
        training.join()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


class _Requests:
    """What is wanted at the time when it is asked for."""

    def __init__(self, wanted: list[Request]) -> None:
        self._wanted = wanted

    def __iter__(self) -> Iterator[Request]:
        return iter(tuple(self._wanted))

    def __len__(self) -> int:
        return len(self._wanted)


class StreamedImages:
    """One split, read as it is wanted and normalised on the device."""

    def __init__(
        self, split: str, images: EncodedSet, readers: ReaderWorkers, augment: Augment, device: torch.device
    ) -> None:
        self.labels = torch.from_numpy(images.labels).to(device)
        """[n] int64."""
        self._split, self._readers, self._augment, self._device = split, readers, augment, device

    @property
    def unreadable(self) -> frozenset[str]:
        """As all splits share their readers, of all of them."""
        return self._readers.unreadable

    def __len__(self) -> int:
        return len(self.labels)

    def training(
        self, indices_SB: NDArray[np.int64], seed: int, epoch: int, shares: BatchShards
    ) -> Iterator[ImageBatch]:
        """Training views; an image that does not decode is replaced by another one of its class."""
        whole = shares.whole if len(shares.sizes) > 1 else indices_SB.shape[1]
        return self._fed(
            [
                Request(self._split, indices.tolist(), (seed, epoch, step * whole + shares.start))
                for step, indices in enumerate(indices_SB)
            ]
        )

    def scoring(self, batches: Sequence[slice]) -> Iterator[ImageBatch]:
        """Images as they are scored; one that does not decode is left out."""
        return self._fed([Request(self._split, list(range(*batch.indices(len(self))))) for batch in batches])

    def _fed(self, requests: list[Request]) -> Iterator[ImageBatch]:
        for views in self._readers.read(requests):
            images = views.images.to(self._device, non_blocking=True)
            yield ImageBatch(self._augment.normalise(images), views.indices.to(self._device, non_blocking=True))
