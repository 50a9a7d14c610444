"""The losses of several runs in one evaluation are those of each run."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from mcl_ray.cohort import CohortOutput
from mcl_ray.config.spec import LossSpec
from mcl_ray.methods.method import Batch, StepLosses
from mcl_ray.methods.supervised import Supervised

WEIGHTS = (
    LossSpec(),
    LossSpec(alpha=0.3, beta=0.2, gamma=0.5, lam=2.0),
    LossSpec(tau=0.2, temperature=1.5),
    LossSpec(beta=0.0, lam=0.0),
    LossSpec(alpha=0.0, beta=0.0, gamma=0.0, lam=0.0),
    LossSpec(logit_distillation="all"),
    LossSpec(logit_distillation="reference", temperature=2.0),
    LossSpec(logit_distillation="reference", tau=0.3),
)


def a_run(weights: LossSpec, peers: int, seed: int, method=Supervised) -> tuple[Supervised, Batch, CohortOutput]:
    generator = torch.Generator().manual_seed(seed)
    batch = Batch(
        torch.zeros(8, 1, 2, 2),
        labels=torch.randint(3, (8,), generator=generator),
        image_ids=torch.randperm(20, generator=generator)[:8],
    )
    logits = torch.randn(peers, 8, 3, generator=generator).requires_grad_()
    embeddings = F.normalize(torch.randn(peers, 8, 5, generator=generator), dim=-1).requires_grad_()
    return method(None, weights, bf16=False), batch, CohortOutput(logits, embeddings)


def _gradients(losses: StepLosses, output: CohortOutput) -> list[torch.Tensor]:
    found = torch.autograd.grad(losses.total, list(output), retain_graph=True, allow_unused=True)
    return [torch.zeros(()) if one is None else one for one in found]


@pytest.mark.parametrize("peers", [1, 2, 3])
def test_terms_totals_and_gradients_are_those_of_each_run(peers):
    runs = [a_run(weights, size, seed) for seed, weights in enumerate(WEIGHTS) for size in (peers, peers + 1)]
    methods, batches, outputs = zip(*runs, strict=True)
    together = Supervised.losses_of_runs(methods, batches, outputs)
    for found, (method, batch, output) in zip(together, runs, strict=True):
        wanted = method.losses_of(batch, output)
        assert list(found.terms) == list(wanted.terms)
        torch.testing.assert_close(found.terms, wanted.terms)
        torch.testing.assert_close(found.total, wanted.total)
        for own, expected in zip(_gradients(found, output), _gradients(wanted, output), strict=True):
            torch.testing.assert_close(own.expand_as(expected), expected)


class Operations(TorchDispatchMode):
    """The number of operations."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


def _operations(runs: int) -> int:
    methods, batches, outputs = zip(*(a_run(LossSpec(tau=0.1 + seed), 2, seed) for seed in range(runs)), strict=True)
    with Operations() as operations:
        Supervised.losses_of_runs(methods, batches, outputs)
    return operations.count


def test_more_runs_need_no_more_operations():
    assert _operations(6) == _operations(2)


class Doubled(Supervised):
    """Losses of a plugin."""

    def losses_of(self, batch: Batch, output: CohortOutput) -> StepLosses:
        losses = super().losses_of(batch, output)
        return StepLosses(2 * losses.total, losses.terms)


def test_a_method_with_other_losses_keeps_them():
    runs = [a_run(LossSpec(), 2, seed, Doubled) for seed in range(2)]
    methods, batches, outputs = zip(*runs, strict=True)
    totals = [losses.total for losses in Doubled.losses_of_runs(methods, batches, outputs)]
    torch.testing.assert_close(totals, [method.losses_of(batch, output).total for method, batch, output in runs])
