"""The settings of the published runs, and the settings in which a run differs from them.

All settings are written out here, as the defaults of the specs may change. The figures are in `published.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mcl_ray.config.spec import (
    AugmentationSpec,
    BankSpec,
    BatchSpec,
    CohortSpec,
    DataSpec,
    LinearSpec,
    LossSpec,
    OptimizerSpec,
    QueueSpec,
    RunSpec,
    ScheduleSpec,
)

MUTUAL_WEIGHTS = {"alpha": 0.1, "beta": 0.1, "gamma": 1.0, "lam": 1.0}
"""Weights of the terms in the published supervised runs; those of a baseline are zero."""
WEIGHTS = tuple(MUTUAL_WEIGHTS)
NOT_COMPARED = {
    "cohort.size",
    "cohort.sharing",
    "compute.batch_statistics",
    "compute.channels_last",
    "compute.compile",
    "compute.peers",
    "evaluation.batch_size",
    "evaluation.neighbours",
    "evaluation.neighbour_images",
    "linear.backbone",
}
BASELINE_PEERS = 2
"""Peers of a published baseline; the best of more networks would be a higher figure."""
PUBLISHED_WORKERS = {"supervised": 1, "supervised_bank": 1, "moco": 8}
"""Method → workers of the published runs, each with batch statistics of its own: one GPU, for MoCo eight (the README
of the published code). Linear classification has no batch statistics, as its networks are frozen."""


UNKNOWN_WORKERS = 0
"""Number of workers of a run that has no record here."""


def deviations(spec: RunSpec, workers: int | None = None, pretraining_workers: int | None = None) -> tuple[str, ...]:
    """Return the settings in which a run, or its pretraining, differs from the corresponding published run.

    The published run is the one with the same network, cohort size and kind of loss.

    Args:
        spec: A run whose method is one of `SETTINGS`.
        workers: Workers that shared its batches; None: as published, for a run that is planned.
        pretraining_workers: Those of its pretraining, or `UNKNOWN_WORKERS`; None: as published.

    Returns:
        Texts of the form `schedule.epochs=5 (published: 300)`.
    """
    published = SETTINGS[spec.method](spec)
    different = _different(spec, published, workers)
    if spec.pretraining is not None and published.pretraining is not None:
        of_pretraining = _different(spec.pretraining, published.pretraining, pretraining_workers)
        different += [f"pretraining.{one}" for one in of_pretraining]
    return tuple(different)


def has_effect(deviation: str, spec: RunSpec) -> bool:
    """Return whether the setting that a deviation names has an effect in a run.

    Args:
        deviation: One of the texts that `deviations` returned for another run.
        spec: The run.
    """
    path, _, _ = deviation.partition("=")
    of_pretraining = path.removeprefix("pretraining.")
    if of_pretraining != path and spec.pretraining is not None:
        return spec.pretraining.acts(of_pretraining)
    return spec.acts(path)


def _different(spec: RunSpec, published: RunSpec, workers: int | None) -> list[str]:
    ours, theirs = (flat(one.model_dump(mode="json", exclude={"pretraining"})) for one in (spec, published))
    different = [
        f"{name}={value} (published: {theirs[name]})"
        for name, value in ours.items()
        if "." in name and name not in NOT_COMPARED and value != theirs.get(name) and spec.acts(name)
    ]
    if spec.cohort.shares_stem != published.cohort.shares_stem:
        different.append(f"cohort.sharing={spec.cohort.sharing} (published: {published.cohort.sharing})")
    if spec.trains_networks and not is_mutual(spec) and spec.cohort.size != BASELINE_PEERS:
        different.append(f"cohort.size={spec.cohort.size} (of a baseline: {BASELINE_PEERS})")
    statistics = _statistics(spec, workers), _statistics(published, None)
    return different + (["{} (published: {})".format(*statistics)] if len(set(statistics)) > 1 else [])


def _statistics(spec: RunSpec, workers: int | None) -> str:
    """Return the images over which batch normalisation averages; of `moco`, also whether keys are shuffled.

    Workers that share a batch shuffle their keys, unless their statistics are synchronised: `mcl_ray.methods.moco`.
    """
    published = PUBLISHED_WORKERS.get(spec.method)
    if published is None:
        return ""
    if workers == UNKNOWN_WORKERS:
        return "batch statistics over an unknown number of images"
    parts = 1 if spec.compute.batch_statistics == "synchronised" else workers or published
    images = f"batch statistics over {-(-spec.batch.size // parts)} images"
    if spec.method != "moco":
        return images
    return f"{images}, keys {'' if parts > 1 else 'not '}shuffled"


def is_mutual(spec: RunSpec) -> bool:
    """Return whether peers learn from each other."""
    teaching = ("beta", "gamma", "lam") if not spec.is_supervised else WEIGHTS
    return any(getattr(spec.losses, name) > 0 for name in teaching)


def _cifar(spec: RunSpec) -> RunSpec:
    return RunSpec(
        data=DataSpec(source="cifar", checksum="official", validation_fraction=0.0),
        augmentation=AugmentationSpec(crop_padding=4, flip=True),
        batch=BatchSpec(size=128, per_class=2, sampler="reference"),
        cohort=_cohort(spec),
        losses=_losses(spec, tau=0.1),
        optimizer=OptimizerSpec(lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=ScheduleSpec(epochs=300, kind="cosine"),
    )


def _imagenet(spec: RunSpec) -> RunSpec:
    return RunSpec(
        method="supervised_bank",
        data=DataSpec(source="folder", validation_fraction=0.0, image_size=224, normalisation="imagenet"),
        augmentation=AugmentationSpec(min_area=0.08, flip=True),
        batch=BatchSpec(size=256, sampler="shuffled"),
        cohort=_cohort(spec),
        losses=_losses(spec, tau=0.07),
        bank=BankSpec(negatives=8192, positives=1, memory_momentum=0.5),
        optimizer=OptimizerSpec(lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4),
        schedule=ScheduleSpec(epochs=90, kind="multistep", milestones=(30, 60), factor=0.1),
    )


def _linear(spec: RunSpec) -> RunSpec:
    return RunSpec(
        method="linear",
        data=DataSpec(source="folder", validation_fraction=0.0, image_size=224, normalisation="imagenet"),
        augmentation=AugmentationSpec(min_area=0.08, flip=True),
        batch=BatchSpec(size=256, sampler="shuffled"),
        cohort=_pretrained_cohort(spec),
        losses=LossSpec(alpha=0.0, beta=0.0, gamma=0.0, lam=0.0),
        linear=LinearSpec(features="each"),
        optimizer=OptimizerSpec(lr=30.0, momentum=0.9, nesterov=False, weight_decay=0.0),
        schedule=ScheduleSpec(epochs=100, kind="multistep", milestones=(60, 80), factor=0.1),
        pretraining=None if spec.pretraining is None else _moco(spec.pretraining),
    )


def _moco(spec: RunSpec) -> RunSpec:
    across = 1.0 if is_mutual(spec) else 0.0
    return RunSpec(
        method="moco",
        data=DataSpec(source="folder", validation_fraction=0.0, image_size=224, normalisation="imagenet"),
        augmentation=AugmentationSpec(min_area=0.2, flip=True, views="moco_v1"),
        batch=BatchSpec(size=256, sampler="shuffled"),
        cohort=_pretrained_cohort(spec),
        losses=LossSpec(alpha=1.0, beta=across, gamma=across, lam=across, tau=0.07, temperature=3.0),
        queue=QueueSpec(keys=65_536, key_momentum=0.999),
        optimizer=OptimizerSpec(lr=0.03, momentum=0.9, nesterov=False, weight_decay=1e-4),
        schedule=ScheduleSpec(epochs=200, kind="multistep", milestones=(120, 160), factor=0.1),
    )


def _pretrained_cohort(spec: RunSpec) -> CohortSpec:
    size, networks = spec.cohort.size, spec.cohort.networks
    return CohortSpec(size=size, networks=networks, sharing="none", embedding_dim=128, head="linear")


SETTINGS: dict[str, Callable[[RunSpec], RunSpec]] = {
    "supervised": _cifar,
    "supervised_bank": _imagenet,
    "linear": _linear,
}
"""Method → function from a run to the published run with its network, cohort size and kind of loss.

Runs of other methods are not compared."""


def _cohort(spec: RunSpec) -> CohortSpec:
    return CohortSpec(size=spec.cohort.size, networks=spec.cohort.networks, sharing="reference", embedding_dim=128)


def _losses(spec: RunSpec, tau: float) -> LossSpec:
    weights = MUTUAL_WEIGHTS if is_mutual(spec) else dict.fromkeys(WEIGHTS, 0.0)
    distilled = spec.losses.logit_distillation != "off"
    return LossSpec(
        alpha=weights["alpha"],
        beta=weights["beta"],
        gamma=weights["gamma"],
        lam=weights["lam"],
        tau=tau,
        temperature=3.0,
        logit_distillation="reference" if distilled else "off",
    )


def flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings under dotted names."""
    settings: dict[str, Any] = {}
    for name, value in content.items():
        settings |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return settings
