"""The steps of one epoch of one run: its batches, its updates and its figures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from mcl_ray.callbacks import RunCallback, StepEnd, notify
from mcl_ray.methods.method import Batch, StepLosses
from mcl_ray.training.metrics import StepMeter
from mcl_ray.training.optim import learning_rate, set_learning_rate
from mcl_ray.training.run_state import RunState


class Epoch:
    """One epoch of a run. `batches` are trained one after another, `end_step` ends each step, and `end` the epoch.

    Args:
        run: the run; its learning rate and its method are set for the epoch.
        epoch: the epoch, from 0.
        callbacks: receive `on_step` after each log interval.
    """

    def __init__(self, run: RunState, epoch: int, callbacks: Sequence[RunCallback]) -> None:
        self.run = run
        self._epoch, self._callbacks = epoch, callbacks
        self._started, self._step = time.perf_counter(), 0
        self._rate = learning_rate(run.spec.optimizer.lr, run.spec.schedule, epoch)
        self._meter = StepMeter(run.environment.steps_per_log, run.device)
        set_learning_rate(run.optimizer, self._rate)
        run.method.on_epoch_start(run.spec.seed, epoch)

    def batches(self) -> Iterator[Batch]:
        """Yield this worker's shards of the batches of the epoch."""
        return self.run.batches(self._epoch)

    def end_step(self, losses: StepLosses) -> None:
        """Update the method after the optimizer has updated the cohort, and record the losses of the step.

        Raises:
            NonFiniteLossError: a loss of the log interval that ends here is NaN or infinite.
        """
        self.run.method.after_optimizer_step()
        self._step += 1
        steps = self.run.sampler.num_batches
        if self._meter.record(losses.terms | {"loss": losses.total}) or self._step == steps:
            self._meter.read(self._epoch + 1)
            if self._callbacks:
                means = self._meter.means()
                event = StepEnd(epoch=self._epoch + 1, step=self._step, steps=steps, losses=means)
                notify(self._callbacks, "on_step", event)

    def end(self) -> dict[str, float]:
        """Return the figures of the epoch's training by their metric."""
        self.run.method.on_epoch_end()
        seconds = time.perf_counter() - self._started
        images = self.run.sampler.num_batches * self.run.shards.whole
        return self._meter.means() | {"lr": self._rate, "epoch_time_s": seconds, "images_per_s": images / seconds}


def train_alone(epoch: Epoch) -> dict[str, float]:
    """Train one epoch of one run, and return its figures."""
    for batch in epoch.batches():
        step_alone(epoch, batch)
    return epoch.end()


def step_alone(epoch: Epoch, batch: Batch) -> None:
    """Train one batch of one run."""
    losses = epoch.run.method.losses(batch)
    epoch.run.optimizer.zero_grad(set_to_none=True)
    losses.total.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    epoch.run.cohort.sum_shared_gradients()
    epoch.run.optimizer.step()
    epoch.end_step(losses)
