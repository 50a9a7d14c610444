"""Queries on the table of epochs: curves, their spread over runs, the splits and members that were scored.

Rankings and comparisons are in `mcl_ray.analysis`; labels and drawing are in `mcl_ray.reports`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from mcl_ray.errors import SpecError

ACCURACIES = {"top1": "top5", "knn_top1": "knn_top5"}
"""Top-1 metric → its top-5 metric: of classifiers, and of nearest neighbours."""
PERCENT = (*ACCURACIES, *ACCURACIES.values())
"""Metrics in percent."""


@dataclass(frozen=True)
class Objective:
    """The key of a figure of an epoch: split, metric and member, as in `validation/top1/mean`."""

    split: str
    metric: str
    member: str

    @classmethod
    def parse(cls, key: str) -> Objective:
        """Parse `split/metric/member`.

        Raises:
            SpecError: `key` does not consist of three names.
        """
        parts = key.split("/")
        if len(parts) != 3 or not all(parts):
            raise SpecError(
                f"an objective has the form split/metric/member, such as validation/top1/mean, but got {key!r}"
            )
        return cls(*parts)

    @property
    def key(self) -> str:
        """The key as text, `split/metric/member`."""
        return f"{self.split}/{self.metric}/{self.member}"

    @property
    def unit(self) -> str:
        """Unit of the figure: `%` for an accuracy, empty for a loss."""
        return "%" if self.metric in PERCENT else ""

    def format(self, value: float) -> str:
        """Return a value as text: two decimals for a percentage, four significant digits otherwise."""
        return f"{value:.2f}" if self.unit else f"{value:.4g}"


BEST_PEER_TEST = Objective("test", "top1", "best")
"""The key whose maximum over epochs is `best_peer_best_epoch`, the figure of the published tables."""

TRAINING_TIME = Objective("train", "epoch_time_s", "cohort")
"""The key of the seconds of an epoch's training steps."""


class Point(NamedTuple):
    """A figure and its epoch."""

    epoch: int
    value: float


def points(epochs: pa.Table, objective: Objective) -> dict[str, list[Point]]:
    """Return run_id → curve of one figure, in the order of epochs, for every run that has it."""
    rows = epochs.filter(_is_of(epochs, objective)).sort_by([("run_id", "ascending"), ("epoch", "ascending")])
    curves: dict[str, list[Point]] = {}
    columns = (rows["run_id"].to_pylist(), rows["epoch"].to_pylist(), rows["value"].to_pylist())
    for run_id, epoch, value in zip(*columns, strict=True):
        curves.setdefault(run_id, []).append(Point(epoch, value))
    return curves


def for_ranking(epochs: pa.Table, objective: Objective) -> pa.Table:
    """Return the rows that a ranking by this figure is made from: the figure, training times, all on test images."""
    wanted = pc.equal(epochs["split"], "test")
    for figure in (objective, TRAINING_TIME):
        wanted = pc.or_(wanted, _is_of(epochs, figure))
    return epochs.filter(wanted)


def _is_of(epochs: pa.Table, objective: Objective) -> pa.ChunkedArray:
    """Return for each row whether it is of this figure."""
    equal = [pc.equal(epochs[column], getattr(objective, column)) for column in ("split", "metric", "member")]
    return reduce(pc.and_, equal)


def training_times(epochs: pa.Table) -> dict[str, float]:
    """Return run_id → seconds of the training steps of all recorded epochs.

    Evaluation and writing do not count. Neither does the start of a process, which one trial would pay for all that
    share the process.
    """
    curves = points(epochs, TRAINING_TIME)
    return {run_id: sum(point.value for point in curve) for run_id, curve in curves.items()}


def _where(rows: pa.Table, column: str, value: str) -> pa.Table:
    """Return the rows with a value in a column.

    Filters by a mask: arrow evaluates an expression in its thread pool, and a process that exits while the pool starts
    is aborted.
    """
    return rows.filter(pc.equal(rows[column], value))


class Spread(NamedTuple):
    """A figure of several runs at one epoch."""

    epoch: int
    mean: float
    """Mean over the runs; NaN if no run has a finite figure."""
    std: float | None
    """Sample standard deviation; None for fewer than two runs."""


def spread(curves: Iterable[Sequence[Point]]) -> list[Spread]:
    """Return mean and standard deviation of curves for each epoch, over the runs that reached it."""
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
    """Return the highest finite point of a curve, the first of equal ones; None without a finite point."""
    return max((point for point in curve if math.isfinite(point.value)), key=lambda point: point.value, default=None)


def of_run(rows: pa.Table, run_id: str) -> pa.Table:
    """Return the rows of one run, of the table of epochs or of runs."""
    return _where(rows, "run_id", run_id)


def of_runs(rows: pa.Table, run_ids: Sequence[str]) -> pa.Table:
    """Return the rows of these runs, of the table of epochs or of runs."""
    return where_in(rows, "run_id", run_ids)


def where_in(rows: pa.Table, column: str, values: Iterable[str]) -> pa.Table:
    """Return the rows that have one of these values in a column."""
    return rows.filter(pc.is_in(rows[column], value_set=pa.array(list(values), pa.string())))


def until_epoch(epochs: pa.Table, last: int) -> pa.Table:
    """Return the rows of the epochs up to `last`."""
    return epochs.filter(pc.less_equal(epochs["epoch"], last))


def members(epochs: pa.Table, split: str) -> list[str]:
    """Return the members that were scored on a split: peers by number, then mean, best and ensemble."""
    found = set(_where(epochs, "split", split)["member"].unique().to_pylist())
    last = [name for name in ("mean", "best", "ensemble") if name in found]
    peers = [name for name in found if name.startswith("peer") and name[4:].isdecimal()]
    return [*sorted(peers, key=lambda name: int(name[4:])), *last]


def accuracy(epochs: pa.Table) -> str:
    """Return the top-1 metric in these rows, a key of `ACCURACIES`; `top1` if there is none."""
    found = set(epochs["metric"].unique().to_pylist())
    return next((metric for metric in ACCURACIES if metric in found), "top1")


def scored_splits(epochs: pa.Table) -> list[str]:
    """Return those of validation and test that were scored."""
    found = set(epochs["split"].unique().to_pylist())
    return [split for split in ("validation", "test") if split in found]
