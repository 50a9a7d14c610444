"""Prometheus gauges of a run while it trains, which each Ray node serves on its metrics port.

Ray puts `ray_` before their names; deploy/monitoring has the dashboard that draws them. A run's record is in the
results store, not in Prometheus.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from ray.util.metrics import Gauge

from mcl_ray.callbacks import EpochEnd, RunCallback, RunEnd, RunStart, StepEnd

RUN_TAGS = ("run_id", "sweep_id", "trial_id", "recipe")
"""Tags of every gauge; `sweep_id` and `trial_id` are empty for a run outside a sweep."""


class GaugeKind(NamedTuple):
    """The description of a gauge, and its tags beside the run's."""

    description: str
    tags: tuple[str, ...] = ()


GAUGES = {
    "mcl_epoch": GaugeKind("Epochs done, with the done part of the running one."),
    "mcl_loss": GaugeKind("Total training loss, weighted; its mean over the epoch so far."),
    "mcl_term": GaugeKind("One summand of the loss, unweighted; its mean over the epoch so far.", ("term",)),
    "mcl_accuracy": GaugeKind("Percent of held-out images right, by the last epoch.", ("split", "metric", "member")),
    "mcl_images_per_s": GaugeKind("Training images per second, of the last epoch."),
    "mcl_failed": GaugeKind("1 as a run fails; `NonFiniteLossError` is one that diverged.", ("error",)),
}


class PrometheusCallback(RunCallback):
    """Sets the gauges of one run, in the process that trains it.

    Ray serves a value for two of its reporting intervals (20 s) after it was last set. So the gauges of a run that
    ended disappear; and each event sets all known values again, or the accuracies would disappear during an epoch.
    """

    def __init__(self, sweep_id: str = "", trial_id: str = "") -> None:
        self._trial = {"sweep_id": sweep_id, "trial_id": trial_id}
        self._tags: dict[str, str] = {}
        self._known: dict[tuple[str, tuple[str, ...]], float] = {}

    def on_run_start(self, start: RunStart) -> None:
        """Tag the gauges with the run; nothing is known of its attempt yet."""
        self._tags = {"run_id": start.run_id, **self._trial, "recipe": start.spec.recipe}
        self._known.clear()

    def on_step(self, step: StepEnd) -> None:
        """Set the progress within the epoch, and the losses."""
        self._known["mcl_epoch", ()] = step.epoch - 1 + step.step / step.steps
        for name, value in step.losses.items():
            self._known[("mcl_loss", ()) if name == "loss" else ("mcl_term", (name,))] = value
        self._set()

    def on_epoch_end(self, epoch: EpochEnd) -> None:
        """Set progress, speed and accuracies; the losses stay those of the epoch's last step."""
        self._known["mcl_epoch", ()] = epoch.epoch
        for row in epoch.rows:
            if row.split != "train" and not row.metric.endswith("agreement"):
                self._known["mcl_accuracy", (row.split, row.metric, row.member)] = row.value
            elif row.metric == "images_per_s":
                self._known["mcl_images_per_s", ()] = row.value
        self._set()

    def on_run_end(self, end: RunEnd) -> None:
        """Set that a run failed: a loss that is not finite is never exported, so it would look like one that ended."""
        if end.state == "failed":
            self._known["mcl_failed", (type(end.error).__name__,)] = 1.0
            self._set()

    def _set(self) -> None:
        gauges = _gauges()
        for (name, values), value in self._known.items():
            gauges[name].set(value, self._tags | dict(zip(GAUGES[name].tags, values, strict=True)))


@lru_cache(maxsize=1)
def _gauges() -> dict[str, Gauge]:
    """Return the gauges, made once per process: trials that follow one another in an actor share them."""
    return {name: Gauge(name, kind.description, RUN_TAGS + kind.tags) for name, kind in GAUGES.items()}
