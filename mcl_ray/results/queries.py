"""Figures picked from the table of epochs: an objective, its value per run, a curve.

What is made of them is `tables.py`, `plots.py` and `page.py`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from mcl_ray.errors import SpecError

ACCURACIES = {"top1": "top5", "knn_top1": "knn_top5"}
"""How peers are scored, by their classifiers or by nearest neighbours: within the first guess, and the first five."""
PERCENT = (*ACCURACIES, *ACCURACIES.values())
METRIC_LABELS = {
    "top1": "Top-1 accuracy",
    "top5": "Top-5 accuracy",
    "knn_top1": "Top-1 kNN accuracy",
    "knn_top5": "Top-5 kNN accuracy",
}
MEMBER_LABELS = {"mean": "mean of peers", "best": "best peer", "ensemble": "ensemble", "cohort": "cohort"}
LOSS_LABELS = {
    "loss": "Total (weighted)",
    "cross_entropy": "Cross-entropy",
    "vcl": "VCL (alpha)",
    "icl": "ICL (beta)",
    "soft_vcl": "Soft-VCL (gamma)",
    "soft_icl": "Soft-ICL (lam)",
    "logit_distillation": "Logit distillation",
}
AMBIGUOUS = {"size", "kind", "source", "test", "factor"}


@dataclass(frozen=True)
class Objective:
    """One figure of an epoch: `validation/top1/mean` is split, metric, member."""

    split: str
    metric: str
    member: str

    @classmethod
    def parse(cls, key: str) -> Objective:
        """Reads `split/metric/member`.

        Raises:
            SpecError: it is not three names.
        """
        parts = key.split("/")
        if len(parts) != 3 or not all(parts):
            raise SpecError(f"an objective is split/metric/member, such as validation/top1/mean, but got {key!r}")
        return cls(*parts)

    @property
    def key(self) -> str:
        """`split/metric/member`."""
        return f"{self.split}/{self.metric}/{self.member}"

    @property
    def unit(self) -> str:
        """`%` for accuracies, nothing for losses."""
        return "%" if self.metric in PERCENT else ""

    @property
    def label(self) -> str:
        """For an axis: `Top-1 accuracy, validation, mean of peers (%)`."""
        member = MEMBER_LABELS.get(self.member, self.member)
        unit = f" ({self.unit})" if self.unit else ""
        return f"{METRIC_LABELS.get(self.metric, self.metric)}, {self.split}, {member}{unit}"

    def format(self, value: float) -> str:
        """Two decimals for a percentage, four digits otherwise."""
        return f"{value:.2f}" if self.unit else f"{value:.4g}"


BEST_PEER_TEST = Objective("test", "top1", "best")
"""Its maximum over epochs is the published tables' figure, `best_peer_best_epoch`."""


class Point(NamedTuple):
    """A figure and its epoch."""

    epoch: int
    value: float


@dataclass(frozen=True)
class Importances:
    """How much of the objective's variance each searched parameter explains; with a reason where there are none."""

    values: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None


def points(epochs: pa.Table, objective: Objective) -> dict[str, list[Point]]:
    """The curve of one figure for every run that has it, by run_id, in the order of epochs."""
    rows = epochs
    for column in ("split", "metric", "member"):
        rows = _where(rows, column, getattr(objective, column))
    rows = rows.sort_by([("run_id", "ascending"), ("epoch", "ascending")])
    curves: dict[str, list[Point]] = {}
    columns = (rows["run_id"].to_pylist(), rows["epoch"].to_pylist(), rows["value"].to_pylist())
    for run_id, epoch, value in zip(*columns, strict=True):
        curves.setdefault(run_id, []).append(Point(epoch, value))
    return curves


def training_times(epochs: pa.Table) -> dict[str, float]:
    """Run → seconds of all its epochs' steps, those of the attempt on record.

    Neither the start of a process counts, which falls to whichever trial comes first, nor scoring and writing.
    """
    curves = points(epochs, Objective("train", "epoch_time_s", "cohort"))
    return {run_id: sum(point.value for point in curve) for run_id, curve in curves.items()}


def _where(rows: pa.Table, column: str, value: str) -> pa.Table:
    """By a mask: arrow would compute an expression in its pool, and a process that ends as that starts is aborted."""
    return rows.filter(pc.equal(rows[column], value))


class Spread(NamedTuple):
    """A figure of several runs at one epoch."""

    epoch: int
    mean: float
    """NaN where no run has a finite figure."""
    std: float | None
    """Sample standard deviation; None with fewer than two runs."""


def spread(curves: Iterable[Sequence[Point]]) -> list[Spread]:
    """The mean of curves and their standard deviation, epoch by epoch, over the runs that came so far."""
    values: dict[int, list[float]] = {}
    for point in (point for curve in curves for point in curve):
        values.setdefault(point.epoch, []).extend([point.value] if math.isfinite(point.value) else [])
    return [
        Spread(
            epoch,
            statistics.fmean(found) if found else math.nan,
            statistics.stdev(found) if len(found) > 1 else None,
        )
        for epoch, found in sorted(values.items())
    ]


def highest(curve: Sequence[Point]) -> Point | None:
    """The first of the highest finite points of a curve; None without one."""
    return max((point for point in curve if math.isfinite(point.value)), key=lambda point: point.value, default=None)


def of_run(epochs: pa.Table, run_id: str) -> pa.Table:
    """The rows of one run."""
    return _where(epochs, "run_id", run_id)


def of_runs(epochs: pa.Table, run_ids: Sequence[str]) -> pa.Table:
    """The rows of these runs."""
    return epochs.filter(pc.is_in(epochs["run_id"], value_set=pa.array(run_ids, pa.string())))


def members(epochs: pa.Table, split: str) -> list[str]:
    """Who was scored on a split: peers by number, then mean, best, ensemble."""
    found = set(_where(epochs, "split", split)["member"].unique().to_pylist())
    last = [name for name in ("mean", "best", "ensemble") if name in found]
    peers = [name for name in found if name.startswith("peer") and name[4:].isdecimal()]
    return [*sorted(peers, key=lambda name: int(name[4:])), *last]


def accuracy(epochs: pa.Table) -> str:
    """How the peers in these rows were scored, a key of `ACCURACIES`; `top1` if they never were."""
    found = set(epochs["metric"].unique().to_pylist())
    return next((metric for metric in ACCURACIES if metric in found), "top1")


def scored_splits(epochs: pa.Table) -> list[str]:
    """Of validation and test, those that were scored."""
    found = set(epochs["split"].unique().to_pylist())
    return [split for split in ("validation", "test") if split in found]


def short_names(parameters: Sequence[str]) -> dict[str, str]:
    """`losses.alpha` is alpha; a last part that says too little, or that two share, keeps its first part."""
    last = [name.rpartition(".")[2] for name in parameters]
    return {
        name: name.replace(".", " ") if end in AMBIGUOUS or last.count(end) > 1 else end
        for name, end in zip(parameters, last, strict=True)
    }
