"""Loader of encoded images, which other processes read, decode and augment while the device trains.

torch's DataLoader manages the processes and their queue; the code that they run is `mcl_ray.data.views`.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from mcl_ray.config.spec import AugmentationSpec
from mcl_ray.data.augment import Augment
from mcl_ray.data.encoded import EncodedSet
from mcl_ray.data.views import Reader, Request, Views
from mcl_ray.distributed import BatchShards
from mcl_ray.errors import TrainingError, UnreadableImagesError, WorkerDiedError
from mcl_ray.interruption import unblocked
from mcl_ray.training.image_loader import ImageBatch, indices_of

BATCHES_AHEAD = 4
"""Number of batches that each reader prefetches."""
DEAD_READER_SIGNS = ("exited unexpectedly", "killed by signal")
"""Phrases by which torch reports it in a plain RuntimeError."""
OPEN_FILES_SIGN = "Too many open files"
SENT_SIGN = "in DataLoader worker process"
"""Phrase that torch adds to an error that a reader has sent."""
_log = logging.getLogger(__name__)


class ReaderWorkers:
    """The reader processes, shared by all splits; started at the first batch, and used until the end of the run.

    Args:
        splits: the images of each split.
        augmentation: augmentation of training images.
        count: number of processes; with 0, this process reads, and the device waits.
        pin: whether batches are in pinned memory, for asynchronous copies to a GPU.
        unreadable: maximum number of images that fail to decode.
        num_views: number of views of each training image.
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
        self._requests: list[Request] = []
        self._unreadable: set[str] = set()
        self._bound = unreadable
        self._loader = DataLoader(
            Reader(splits, augmentation, num_views),
            sampler=_Requests(self._requests),
            generator=torch.Generator(),  # otherwise each epoch would use the global generator, as weights do
            batch_size=None,
            num_workers=count,
            pin_memory=pin,
            prefetch_factor=BATCHES_AHEAD if count else None,
            persistent_workers=count > 0,
            multiprocessing_context="forkserver" if count else None,  # fork is unsafe in a process with threads
            worker_init_fn=prepare_reader,
        )

    @property
    def unreadable(self) -> frozenset[str]:
        """Names of the images that failed to decode so far."""
        return frozenset(self._unreadable)

    def read(self, requests: list[Request]) -> Iterator[Views]:
        """Yield one batch for each request, in the order of the requests.

        Raises:
            UnreadableImagesError: more images failed to decode than the spec allows.
            WorkerDiedError: a reader has ended.
        """
        self._requests[:] = requests
        if self._loader.num_workers:
            with unblocked():
                forkserver.ensure_running()  # readers are forked from it, and block what it does
        for views in self._loaded():
            self._record_unreadable(views.unreadable)
            yield views

    def _loaded(self) -> Iterator[Views]:
        """Yield what the readers have read.

        Raises:
            WorkerDiedError: one of them has ended.
            TrainingError: the limit of open files is too low for them.
        """
        try:
            yield from self._loader
        except (RuntimeError, OSError, EOFError) as error:
            if OPEN_FILES_SIGN in str(error):
                raise TrainingError(
                    "the limit of open files (`ulimit -n`) must suffice for the batches of all readers, but does not "
                    f"for {self._loader.num_workers}; fewer --readers, or a higher limit, may do"
                ) from error
            if not self._loader.num_workers or not _is_of_dead_reader(error):
                raise
            raise WorkerDiedError(
                f"the readers must run as long as the run, but one has ended, killed or out of memory: {error}"
            ) from error

    def _record_unreadable(self, reasons: dict[str, str]) -> None:
        for name, reason in reasons.items():
            if name not in self._unreadable:
                self._unreadable.add(name)
                _log.warning("skipped an image that does not decode: %s (%s)", name, reason)
        if len(self._unreadable) > self._bound:
            raise UnreadableImagesError(sorted(self._unreadable), self._bound)


def prepare_reader(_: int) -> None:
    """Make a reader process exit when the training process ends, even by a signal, and print nothing because of it.

    torch's readers poll their parent process. This is the fork server, which runs as long as they do.
    """
    sys.excepthook = _report
    training = multiprocessing.parent_process()
    assert training is not None, "a reader process has a parent"

    def exit_with_it() -> None:
        training.join()
        os._exit(1)

    threading.Thread(target=exit_with_it, daemon=True).start()


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an error, unless it is of a connection: the training process was interrupted while it took a batch.

    multiprocessing reports errors of the thread that hands over the memory of batches so, and the thread continues.
    """
    if not isinstance(error, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


def _is_of_dead_reader(error: RuntimeError | OSError | EOFError) -> bool:
    """Return whether an error is of the connection to a reader, and not one that a reader has sent."""
    if isinstance(error, RuntimeError):
        return any(sign in str(error) for sign in DEAD_READER_SIGNS)
    return isinstance(error, ConnectionError | EOFError | FileNotFoundError) and SENT_SIGN not in str(error)


class _Requests:
    """Sampler of the requests that are current when an epoch starts."""

    def __init__(self, requests: list[Request]) -> None:
        self._requests = requests

    def __iter__(self) -> Iterator[Request]:
        return iter(tuple(self._requests))

    def __len__(self) -> int:
        return len(self._requests)


class StreamedImages:
    """Loader of a split of encoded images, read on demand and normalised on the device.

    Args:
        split: name of the split.
        images: its images.
        readers: the reader processes.
        augment: normalisation.
        device: the training device.
    """

    def __init__(
        self, split: str, images: EncodedSet, readers: ReaderWorkers, augment: Augment, device: torch.device
    ) -> None:
        self.labels = torch.from_numpy(images.labels).to(device)
        """[n] int64."""
        self._split, self._readers, self._augment, self._device = split, readers, augment, device

    @property
    def unreadable(self) -> frozenset[str]:
        """Names of the images of all splits that failed to decode so far; the splits share their readers."""
        return self._readers.unreadable

    def __len__(self) -> int:
        return len(self.labels)

    def training(
        self, indices_SB: NDArray[np.int64], seed: int, epoch: int, shares: BatchShards
    ) -> Iterator[ImageBatch]:
        """Yield training views; an image that fails to decode is replaced by another one of its class."""
        whole = shares.whole if len(shares.sizes) > 1 else indices_SB.shape[1]
        return self._batches(
            [
                Request(self._split, indices.tolist(), (seed, epoch, step * whole + shares.start))
                for step, indices in enumerate(indices_SB)
            ]
        )

    def scoring(self, batches: Sequence[slice | Sequence[int]]) -> Iterator[ImageBatch]:
        """Yield evaluation images; an image that fails to decode is left out."""
        return self._batches([Request(self._split, indices_of(batch, len(self))) for batch in batches])

    def _batches(self, requests: list[Request]) -> Iterator[ImageBatch]:
        for views in self._readers.read(requests):
            images = views.images.to(self._device, non_blocking=True)
            yield ImageBatch(self._augment.normalise(images), views.indices.to(self._device, non_blocking=True))
