"""What a run tells Prometheus while it trains: gauges that each Ray node serves on its metrics port.

Ray puts `ray_` before their names; deploy/monitoring has the dashboard that draws them. A run's record is not here but
in the results store.
"""

from __future__ import annotations

from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ray.util.metrics import Gauge

from mcl_ray.config.environment import Environment
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.dataset import Dataset
from mcl_ray.results.store import RunWriter
from mcl_ray.training.loop import EpochReport
from mcl_ray.training.multi_seed import RunIterator
from mcl_ray.training.recorded_run import run_epochs

RUN_TAGS = ("run_id", "sweep_id", "trial_id", "recipe")
"""Every gauge has these; a run outside a sweep has empty ones."""


class GaugeKind(NamedTuple):
    """What a gauge says, and by which tags beside the run's."""

    meaning: str
    tags: tuple[str, ...] = ()


GAUGES = {
    "mcl_epoch": GaugeKind("Epochs done, with the done part of the running one."),
    "mcl_loss": GaugeKind("Total training loss, weighted; its mean over the epoch so far."),
    "mcl_term": GaugeKind("One summand of the loss, unweighted; its mean over the epoch so far.", ("term",)),
    "mcl_accuracy": GaugeKind("Percent of held-out images right, by the last epoch.", ("split", "metric", "member")),
    "mcl_images_per_s": GaugeKind("Training images per second, of the last epoch."),
}


class Gauges:
    """The gauges of one run; its methods are the training loop's `Report` and `Heartbeat`.

    Ray serves a value for two of its reporting intervals (20 s) after it was last set. So a run that ended leaves
    nothing behind, and each call sets all that is known anew, lest the accuracies go while the next epoch trains.
    """

    def __init__(self, run_id: str, sweep_id: str | None, trial_id: str | None, recipe: str) -> None:
        self._run = dict(zip(RUN_TAGS, (run_id, sweep_id or "", trial_id or "", recipe), strict=True))
        self._known: dict[tuple[str, tuple[str, ...]], float] = {}

    def epoch(self, epoch: EpochReport, checkpoint: Path | None) -> None:
        """Show the end of an epoch: progress, speed and accuracies. Its losses were the last step's."""
        self._known["mcl_epoch", ()] = epoch.epoch
        for row in epoch.rows:
            if row.split != "train":
                self._known["mcl_accuracy", (row.split, row.metric, row.member)] = row.value
            elif row.metric == "images_per_s":
                self._known["mcl_images_per_s", ()] = row.value
        self._show()

    def step(self, *, epoch: int, step: int, steps: int, losses: dict[str, float]) -> None:
        """Show progress within an epoch, and the losses."""
        self._known["mcl_epoch", ()] = epoch - 1 + step / steps
        for name, value in losses.items():
            self._known[("mcl_loss", ()) if name == "loss" else ("mcl_term", (name,))] = value
        self._show()

    def _show(self) -> None:
        gauges = _gauges()
        for (name, values), value in self._known.items():
            gauges[name].set(value, self._run | dict(zip(GAUGES[name].tags, values, strict=True)))


def run_with_gauges(
    spec: RunSpec,
    dataset: Dataset,
    environment: Environment,
    writer: RunWriter | None,
    sweep_id: str | None = None,
    trial_id: str | None = None,
) -> RunIterator:
    """Train by `run_epochs`, with gauges that follow; workers after the first have neither a record nor gauges."""
    if writer is None:
        yield from run_epochs(spec, dataset, environment, None)
        return
    gauges = Gauges(writer.run_id, sweep_id, trial_id, spec.recipe)
    with closing(run_epochs(spec, dataset, environment, writer, gauges.step)) as run:
        for told in run:
            gauges.epoch(*told)
            yield told


@lru_cache(maxsize=1)
def _gauges() -> dict[str, Gauge]:
    """Made once per process, and not before it trains: trials that follow one another in an actor share them."""
    return {name: Gauge(name, kind.meaning, RUN_TAGS + kind.tags) for name, kind in GAUGES.items()}
