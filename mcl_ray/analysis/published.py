"""The published tables of Mutual Contrastive Learning (arXiv 2104.12565), and the cell that a run belongs to.

Figures are the test top-1 in % of the best peer at its best epoch, mean ± std over the authors' runs where given.
None of them was measured by this project. How the published runs were trained is in `published_setting.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from mcl_ray.analysis.published_setting import SETTINGS, WEIGHTS, deviations, is_mutual
from mcl_ray.config.spec import RunSpec

Figure = tuple[float, float | None]
"""Mean and standard deviation; the latter is None where it was not published."""
Column = Literal["baseline", "x2", "x4", "x4_kd"]
"""`baseline` is a cohort with all four weights zero; the others are MCL with 2 or 4 peers."""
COLUMN_LABELS: dict[Column, str] = {
    "baseline": "baseline",
    "x2": "MCL ×2",
    "x4": "MCL ×4",
    "x4_kd": "MCL ×4 with logit distillation",
}


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """A published table: networks, and their figures in its columns."""

    title: str
    method: str
    """Method of the published runs."""
    figures: Mapping[str, Mapping[Column, Figure]]
    """Network → column → figure."""
    note: str = ""
    """Note on what cannot be verified from the record of a run."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns that have a figure, in their order."""
        return tuple(column for column in get_args(Column) if any(column in row for row in self.figures.values()))


CIFAR = PublishedTable(
    title="CIFAR-100",
    method="supervised",
    figures={
        "resnet32": {"baseline": (70.91, 0.14), "x2": (72.96, 0.28), "x4": (74.04, 0.07)},
        "resnet56": {"baseline": (73.15, 0.23), "x2": (74.48, 0.23), "x4": (75.74, 0.16)},
        "resnet110": {"baseline": (75.29, 0.16), "x2": (77.12, 0.20), "x4": (78.82, 0.14)},
        "wrn_16_2": {"baseline": (72.55, 0.24), "x2": (74.56, 0.11), "x4": (75.79, 0.07), "x4_kd": (76.34, 0.22)},
        "wrn_40_2": {"baseline": (76.89, 0.29), "x2": (77.51, 0.42), "x4": (78.84, 0.22), "x4_kd": (80.02, 0.45)},
        "wrn_28_4": {"baseline": (79.17, 0.29), "x4_kd": (81.68, 0.31)},
        "hcgnet_a1": {"baseline": (77.42, 0.16), "x2": (78.62, 0.26), "x4": (79.50, 0.15)},
        "hcgnet_a2": {"baseline": (79.00, 0.41), "x4_kd": (82.47, 0.20)},
        "shufflenetv2_05x": {"baseline": (67.39, 0.35), "x2": (69.55, 0.22), "x4": (70.92, 0.28)},
        "shufflenetv2_1x": {
            "baseline": (70.93, 0.24),
            "x2": (73.26, 0.18),
            "x4": (75.18, 0.25),
            "x4_kd": (77.02, 0.32),
        },
    },
)
IMAGENET = PublishedTable(
    title="ImageNet",
    method="supervised_bank",
    figures={
        "resnet18": {"baseline": (69.76, None), "x2": (70.32, None), "x4": (70.77, None), "x4_kd": (70.82, None)},
        "resnet34": {"baseline": (73.30, None), "x2": (74.13, None), "x4": (74.34, None)},
    },
    note="A folder of images has no checksum: that it is ImageNet's is not verified.",
)
MOCO = PublishedTable(
    title="MoCo on ImageNet, linear classification",
    method="linear",
    figures={"resnet18": {"baseline": (47.45, 0.11), "x2": (48.04, 0.13)}},
    note=IMAGENET.note,
)
TABLES = {"cifar": CIFAR, "imagenet": IMAGENET, "moco": MOCO}


@dataclass(frozen=True, kw_only=True)
class PublishedFigure:
    """A published accuracy, and the settings in which a run differs from the published ones."""

    label: str
    """Name of the cell, `CIFAR-100, resnet32, MCL ×2`."""
    mean: float
    std: float | None
    deviations: tuple[str, ...]
    """Settings that differ, as `schedule.epochs=5 (published: 300)`; empty for a reproduction."""
    is_of_other_images: bool
    """True if the run's images come from another kind of source, so that a difference has no meaning."""

    def __str__(self) -> str:
        return format_figure((self.mean, self.std))


def format_figure(figure: Figure) -> str:
    """Return `72.96 ± 0.28`, or the mean alone if there is no standard deviation."""
    mean, std = figure
    return f"{mean:.2f}" if std is None else f"{mean:.2f} ± {std:.2f}"


def column_of(spec: RunSpec) -> Column | None:
    """Return the column of a run in the tables of its method; None for a kind of run that was not published.

    A baseline has all four weights at zero and no distillation; an MCL run has all four above zero. Linear
    classification has the column of its pretraining, whose baseline keeps the contrast within each peer.
    """
    by_size: dict[int, Column] = {2: "x2", 4: "x4"}
    if len(set(spec.cohort.peers)) > 1:
        return None
    if spec.method == MOCO.method:
        return _column_of_pretraining(spec.pretraining)
    distilled = spec.losses.logit_distillation != "off"
    weighted = [getattr(spec.losses, name) > 0 for name in WEIGHTS]
    if not any(weighted) and not distilled:
        return "baseline"
    column = by_size.get(spec.cohort.size) if all(weighted) else None
    if distilled:
        return "x4_kd" if column == "x4" else None
    return column


def _column_of_pretraining(spec: RunSpec | None) -> Column | None:
    if spec is None or spec.method != "moco":
        return None
    if is_mutual(spec):
        return column if (column := column_of(spec)) in MOCO.columns else None
    return "baseline"


def published_figure(
    spec: RunSpec, workers: int | None = None, pretraining_workers: int | None = None
) -> PublishedFigure | None:
    """Return the figure of the published cell that a run belongs to; None without one.

    Supervised runs must be trained on CIFAR-100 with the published checksum. For linear classification, images of
    another source are allowed, and are listed among the deviations.

    Args:
        spec: The run.
        workers: Workers that shared its batches; None: as published.
        pretraining_workers: Those of its pretraining; None: as published.
    """
    column, network = column_of(spec), spec.cohort.peers[0]
    if column is None or spec.method not in (CIFAR.method, MOCO.method):
        return None
    if spec.method == CIFAR.method and (spec.data.source, spec.data.checksum) != ("cifar", "official"):
        return None
    table = CIFAR if spec.method == CIFAR.method else MOCO
    figure = table.figures.get(network, {}).get(column)
    if figure is None:
        return None
    label = f"{table.title}, {network}, {COLUMN_LABELS[column]}"
    return PublishedFigure(
        label=label,
        mean=figure[0],
        std=figure[1],
        deviations=deviations(spec, workers, pretraining_workers),
        is_of_other_images=spec.data.source != SETTINGS[spec.method](spec).data.source,
    )
