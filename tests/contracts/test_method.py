"""The contract of a training method: what the training loop, checkpoints and several workers rely on.

For a method of one's own, derive a test class from `MethodContract` whose fixture `spec` returns a run with it.
"""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mcl_ray.config.overrides import parse, replace
from mcl_ray.config.spec import RunSpec
from mcl_ray.methods.method import weighted_sum
from mcl_ray.results.store import read_runs
from tests.support.comparison import assert_equal_to_the_bit, figures
from tests.support.pictures import write_folder
from tests.support.small_runs import METHODS, SMALL, Parts, newest, train


def stepped(spec: RunSpec, folder: Path, steps: int, **changes: Tensor) -> tuple[Parts, list[dict[str, Tensor]]]:
    """Return a run's parts after some steps, of whose batches some fields may be replaced, and the losses of each."""
    parts = Parts(spec, folder)
    losses = [parts.step(batch._replace(**changes)) for batch in parts.batches(steps)]
    return parts, losses


def saved(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state as it is read from a checkpoint."""
    content = io.BytesIO()
    torch.save(state, content)
    return torch.load(io.BytesIO(content.getvalue()), weights_only=True)


class MethodContract:
    """Tests of the method of `spec`, a run on small images in a folder: three classes, 24 training images."""

    @pytest.fixture
    def spec(self) -> RunSpec:
        raise NotImplementedError

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return write_folder(tmp_path / "pictures")

    def test_the_loss_is_the_weighted_sum_of_its_terms(self, spec, folder):
        parts = Parts(spec, folder)
        (batch,) = parts.batches(1)
        losses = parts.method.losses(batch)
        assert losses.terms
        assert all(value.ndim == 0 and bool(value.isfinite()) for value in losses.terms.values())
        torch.testing.assert_close(losses.total.detach(), weighted_sum(losses.terms, spec.losses).detach())

    def test_every_parameter_that_is_trained_has_a_gradient(self, spec, folder):
        """DistributedDataParallel waits for the gradient of each."""
        parts = Parts(spec, folder)
        (batch,) = parts.batches(1)
        parts.method.losses(batch).total.backward()
        without = {name for name, parameter in parts.cohort.named_parameters() if parameter.grad is None}
        assert without == {name for name, parameter in parts.cohort.named_parameters() if not parameter.requires_grad}

    def test_only_the_optimizer_changes_parameters(self, spec, folder):
        parts = Parts(spec, folder)
        before = [parameter.detach().clone() for parameter in parts.cohort.parameters()]
        parts.method.on_epoch_start(spec.seed, 0)
        for batch in parts.batches(2):
            parts.method.losses(batch)
            parts.method.after_optimizer_step()
        parts.method.on_epoch_end()
        assert all(torch.equal(*pair) for pair in zip(parts.cohort.parameters(), before, strict=True))

    def test_one_seed_gives_the_same_losses_to_the_bit(self, spec, folder):
        (_, first), (_, again) = (stepped(spec, folder, 3) for _ in range(2))
        assert_equal_to_the_bit(again, first)
        _, other = stepped(replace(spec, {"seed": spec.seed + 1}), folder, 3)
        assert not all(torch.equal(other[0][name], value) for name, value in first[0].items())

    def test_its_state_is_restored_to_the_bit(self, spec, folder):
        trained, _ = stepped(spec, folder, 2)
        restored = Parts(replace(spec, {"seed": spec.seed + 1}), folder)
        for name in ("cohort", "optimizer", "method"):
            getattr(restored, name).load_state_dict(saved(getattr(trained, name).state_dict()))
        assert_equal_to_the_bit(saved(restored.method.state_dict()), saved(trained.method.state_dict()))
        batches = list(trained.batches(2))
        for parts in (trained, restored):
            parts.method.on_epoch_start(spec.seed, 1)
        for batch in batches:
            assert_equal_to_the_bit(restored.step(batch), trained.step(batch))
        restored.method.on_epoch_end()

    def test_it_needs_labels_if_its_spec_says_so(self, spec, folder):
        (batch,) = Parts(spec, folder).batches(1)
        _, (losses,) = stepped(spec, folder, 1)
        _, (relabelled,) = stepped(spec, folder, 1, labels=(batch.labels + 1) % 3)
        assert all(torch.equal(relabelled[name], value) for name, value in losses.items()) != spec.is_supervised

    def test_losses_stay_in_float32_where_networks_run_in_bf16(self, spec, folder):
        _, losses = stepped(replace(spec, {"compute.precision": "bf16"}), folder, 1)
        assert {value.dtype for value in losses[0].values()} == {torch.float32}
        assert all(bool(value.isfinite()) for value in losses[0].values())

    def test_a_run_that_was_interrupted_ends_as_one_that_was_not_to_the_bit(self, spec, folder, tmp_path):
        whole = train(spec, folder, tmp_path / "whole")
        train(spec, folder, tmp_path / "parts", epochs=2)
        parts = train(spec, folder, tmp_path / "parts")
        assert [read_runs(tmp_path / name)["state"].to_pylist() for name in ("whole", "parts")] == [["finished"]] * 2
        recorded = figures(tmp_path / "whole")
        assert max(epoch for epoch, *_ in recorded) == spec.schedule.epochs
        assert all(math.isfinite(value) for value in recorded.values())
        assert figures(tmp_path / "parts") == recorded
        assert_equal_to_the_bit(newest(parts).cohort, newest(whole).cohort)
        assert_equal_to_the_bit(newest(parts).method, newest(whole).method)


class TestBuiltIn(MethodContract):
    @pytest.fixture(params=METHODS)
    def spec(self, request):
        recipe, *overrides = METHODS[request.param]
        spec = replace(recipe(), parse(RunSpec, [*SMALL, *overrides]))
        assert spec.method == request.param
        return spec
