"""Comparison of runs: the figures on record, and the state at the end, to the bit."""

from __future__ import annotations

from pathlib import Path

import torch

from mcl_ray.config import recipes
from mcl_ray.config.overrides import parse, replace
from mcl_ray.config.spec import RunSpec
from mcl_ray.results.store import find_run, read_epochs
from mcl_ray.training.checkpoint import CheckpointFolder

WALL_CLOCK = {"epoch_time_s", "images_per_s"}
"""Metrics that depend on the machine."""


def figures(results: Path) -> dict[tuple[object, ...], float]:
    """Return (epoch, split, metric, member) → value of every figure that does not depend on the machine."""
    rows = [row for row in read_epochs(results).to_pylist() if row["metric"] not in WALL_CLOCK]
    found = {(row["epoch"], row["split"], row["metric"], row["member"]): row["value"] for row in rows}
    assert len(found) == len(rows), "a figure is there twice"
    return found


def checkpoints_of(results: Path, overrides: tuple[str, ...]) -> CheckpointFolder:
    """Return the checkpoints of the run of `digits` with these overrides."""
    spec = replace(recipes.digits(), parse(RunSpec, overrides))
    folder = find_run(results, spec)
    assert folder is not None
    return CheckpointFolder(folder / "checkpoints")


def assert_equal_to_the_bit(first: object, second: object) -> None:
    """Compare the nested state of modules and optimisers; tensors as bytes, so that -0.0 is not 0.0."""
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        assert first.dtype == second.dtype
        assert first.shape == second.shape
        assert first.contiguous().numpy().tobytes() == second.contiguous().numpy().tobytes()
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_equal_to_the_bit(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_equal_to_the_bit(one, other)
    else:
        assert first == second


def assert_ends_alike(results: Path, reference: Path, overrides: tuple[str, ...]) -> None:
    """Compare two runs of `digits` with these overrides: same figures of every epoch, same state at the end."""
    assert figures(results) == figures(reference)
    (ours, _), (theirs, _) = (checkpoints_of(place, overrides).latest() for place in (results, reference))
    assert ours.epoch == theirs.epoch
    assert len(ours.cohort) > 20
    assert len(ours.optimizer["state"]) > 20
    assert_equal_to_the_bit(ours.cohort, theirs.cohort)
    assert_equal_to_the_bit(ours.optimizer, theirs.optimizer)
