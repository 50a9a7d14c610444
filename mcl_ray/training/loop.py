"""The training loop.

A spec, an environment and a data set go in; an event for every epoch comes out, and callbacks receive the steps. The
loop knows neither results files nor Ray. Several workers run it in lockstep, each with its shard of every batch.

N peers, B images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mcl_ray.callbacks import EpochEnd, RunCallback
from mcl_ray.config.environment import Environment
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.dataset import Dataset
from mcl_ray.training.pack import Pack
from mcl_ray.training.run_state import RunState


def iter_epochs(
    spec: RunSpec,
    dataset: Dataset,
    environment: Environment,
    checkpoints_folder: Path | None,
    callbacks: Sequence[RunCallback] = (),
    pack: Pack | None = None,
) -> Iterator[EpochEnd]:
    """Train the cohort of `spec`, from the newest checkpoint if there is one, and yield an event after each epoch.

    Between two epochs nothing runs, and an epoch draws nothing from torch's global generator, so that several runs can
    be trained in turn. Workers that share a run must all continue or all stop.

    Args:
        spec: What to train.
        dataset: The images.
        environment: Device, folders and threads.
        checkpoints_folder: Folder of the checkpoints; None on every rank but 0: these receive what rank 0 reads.
        callbacks: Receive `on_step` after each log interval. The other events are for the caller to send.
        pack: Runs with which this one shares its steps as long as it is alike; None: it trains alone.

    Yields:
        The epoch that the run resumes from, once more, as its event may have been lost; then each epoch as it ends. In
        a pack, a run that starts anew first yields epoch 0, without figures: it is built, and so can be trained with
        the others.

    Raises:
        NonFiniteLossError: a loss became NaN or infinite.
        CheckpointError: the checkpoints are damaged or belong to another spec.
        UnreadableImagesError: more images do not decode than the spec allows.
    """
    run = RunState(spec, dataset, environment, checkpoints_folder)
    resumed = run.resume()
    start = resumed.epoch if resumed else 0
    with (pack or Pack()).joined(run, start, callbacks) as train_epoch:
        if resumed is not None:
            yield resumed
        elif pack is not None:
            yield EpochEnd(epoch=0, rows=[])
        for epoch in range(start, spec.schedule.epochs):
            figures = train_epoch()
            yield run.end_epoch(epoch + 1, figures)
