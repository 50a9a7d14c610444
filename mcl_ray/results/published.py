"""The published figures of Mutual Contrastive Learning (arXiv 2104.12565), as data.

Best peer at the best test epoch, top-1 in %, mean ± std over the authors' runs. Only figures for data sets that this
project trains on; nothing here was measured by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mcl_ray.spec import (
    AugmentationSpec,
    BatchSpec,
    CohortSpec,
    DataSpec,
    LossSpec,
    OptimizerSpec,
    RunSpec,
    ScheduleSpec,
)

Figure = tuple[float, float]
BASELINE = 0
"""Stands for the cohort size in the baseline's column: independent networks, of any number."""

CIFAR100: dict[str, dict[int, Figure]] = {
    "resnet32": {BASELINE: (70.91, 0.14), 2: (72.96, 0.28), 4: (74.04, 0.07)},
    "resnet56": {BASELINE: (73.15, 0.23), 2: (74.48, 0.23), 4: (75.74, 0.16)},
    "resnet110": {BASELINE: (75.29, 0.16), 2: (77.12, 0.20), 4: (78.82, 0.14)},
    "wrn_16_2": {BASELINE: (72.55, 0.24), 2: (74.56, 0.11), 4: (75.79, 0.07)},
    "wrn_40_2": {BASELINE: (76.89, 0.29), 2: (77.51, 0.42), 4: (78.84, 0.22)},
    "hcgnet_a1": {BASELINE: (77.42, 0.16), 2: (78.62, 0.26), 4: (79.50, 0.15)},
    "shufflenetv2_05x": {BASELINE: (67.39, 0.35), 2: (69.55, 0.22), 4: (70.92, 0.28)},
    "shufflenetv2_1x": {BASELINE: (70.93, 0.24), 2: (73.26, 0.18), 4: (75.18, 0.25)},
}
CIFAR100_LOGIT_DISTILLATION: dict[str, dict[int, Figure]] = {
    "wrn_16_2": {BASELINE: (72.55, 0.24), 4: (76.34, 0.22)},
    "wrn_40_2": {BASELINE: (76.89, 0.29), 4: (80.02, 0.45)},
    "wrn_28_4": {BASELINE: (79.17, 0.29), 4: (81.68, 0.31)},
    "shufflenetv2_1x": {BASELINE: (70.93, 0.24), 4: (77.02, 0.32)},
    "hcgnet_a2": {BASELINE: (79.00, 0.41), 4: (82.47, 0.20)},
}
WEIGHTS = ("alpha", "beta", "gamma", "lam")
NOT_COMPARED = {"cohort.size", "cohort.sharing", "compute.channels_last", "evaluation.batch_size"}


@dataclass(frozen=True, kw_only=True)
class PublishedFigure:
    """A published accuracy, and how far the run beside it departs from the published setting."""

    label: str
    """`CIFAR-100, resnet32, MCL ×2`."""
    mean: float
    std: float
    deviations: tuple[str, ...]
    """Settings that differ, `schedule.epochs=5 (published: 300)`; empty for a reproduction."""

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.std:.2f}"


def published_figure(spec: RunSpec) -> PublishedFigure | None:
    """The published row of this network, cohort size and kind of loss, on CIFAR-100 as published; None without one.

    A baseline has all four weights at zero and no distillation; an MCL row has all four above zero.
    """
    data, cohort, losses = spec.data, spec.cohort, spec.losses
    if data.source != "cifar" or data.checksum != "official" or len(set(cohort.peers)) > 1:
        return None
    distilled = losses.logit_distillation != "off"
    weighted = [getattr(losses, name) > 0 for name in WEIGHTS]
    if not (all(weighted) or (not any(weighted) and not distilled)):
        return None
    network = cohort.peers[0]
    column = cohort.size if all(weighted) else BASELINE
    table = CIFAR100_LOGIT_DISTILLATION if distilled else CIFAR100
    if column == BASELINE and network not in table:
        table = CIFAR100_LOGIT_DISTILLATION
    figure = table.get(network, {}).get(column)
    if figure is None:
        return None
    name = f"MCL ×{column}" if column else "baseline"
    label = f"CIFAR-100, {network}, {name}{' with logit distillation' if distilled else ''}"
    return PublishedFigure(label=label, mean=figure[0], std=figure[1], deviations=_deviations(spec))


def _published_setting(spec: RunSpec) -> RunSpec:
    """The published run of this network, size and kind of loss; spelled out, since our defaults may move."""
    weighted, distilled = spec.losses.alpha > 0, spec.losses.logit_distillation != "off"
    hard, soft = (0.1, 1.0) if weighted else (0.0, 0.0)
    return RunSpec(
        data=DataSpec(source="cifar", checksum="official", validation_fraction=0.0),
        augmentation=AugmentationSpec(crop_padding=4, flip=True),
        batch=BatchSpec(size=128, per_class=2, sampler="reference"),
        cohort=CohortSpec(size=spec.cohort.size, networks=spec.cohort.networks, sharing="reference", embedding_dim=128),
        losses=LossSpec(
            alpha=hard,
            beta=hard,
            gamma=soft,
            lam=soft,
            tau=0.1,
            temperature=3.0,
            logit_distillation="reference" if distilled else "off",
        ),
        optimizer=OptimizerSpec(lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=ScheduleSpec(epochs=300, kind="cosine"),
    )


def _deviations(spec: RunSpec) -> tuple[str, ...]:
    published = _published_setting(spec)
    ours, theirs = flat(spec.model_dump(mode="json")), flat(published.model_dump(mode="json"))
    different = [
        f"{name}={value} (published: {theirs[name]})"
        for name, value in ours.items()
        if "." in name and name not in NOT_COMPARED and value != theirs.get(name)
    ]
    if spec.cohort.shares_stem != published.cohort.shares_stem:
        different.append(f"cohort.sharing={spec.cohort.sharing} (published: reference)")
    return tuple(different)


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names."""
    settings: dict[str, Any] = {}
    for name, value in content.items():
        settings |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return settings
