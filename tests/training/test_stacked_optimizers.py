"""Stacked optimizers update what each optimizer updates alone, to the bit, and leave it the same state."""

import torch

from mcl_ray.cohort import Cohort, build_cohort
from mcl_ray.config import recipes
from mcl_ray.config.overrides import replace
from mcl_ray.training.cohort_stack import CohortStack
from mcl_ray.training.optim import SGD, build_optimizer
from mcl_ray.training.stacked_optimizers import StackedOptimizers

OPTIMIZERS: tuple[dict[str, object], ...] = (
    {},
    {"lr": 0.01, "momentum": 0.5, "weight_decay": 0.01},
    {"momentum": 0.0, "nesterov": False},
)
SIZES = 2, 3, 1


def made(k: int) -> tuple[Cohort, SGD]:
    fields = {f"optimizer.{name}": value for name, value in OPTIMIZERS[k].items()}
    spec = replace(recipes.digits(), {"cohort.size": SIZES[k]} | fields)
    torch.manual_seed(k)
    cohort = build_cohort(spec.cohort, num_classes=3, in_channels=1).to(memory_format=torch.channels_last)
    cohort.heads.requires_grad_(k != 1)
    return cohort, build_optimizer(cohort, spec.optimizer)


def give_gradients(cohort: Cohort, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in cohort.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape, generator=generator))


def test_stacked_optimizers_do_what_each_does_alone():
    runs, alone = ([made(k) for k in range(len(SIZES))] for _ in range(2))
    cohorts, optimizers = zip(*runs, strict=True)
    for restart in range(2):
        stack = CohortStack(cohorts)
        together = StackedOptimizers(stack, optimizers)
        for step in range(3):
            for k, (cohort, optimizer) in enumerate(alone):
                give_gradients(cohort, seed=100 * restart + 10 * step + k)
                give_gradients(cohorts[k], seed=100 * restart + 10 * step + k)
                optimizer.step()
            for stacked, _ in stack.parameters:
                own = [tensor.grad for tensor in stacked.tensors]
                stacked.whole.grad = None if own[0] is None else torch.empty_like(stacked.whole).copy_(torch.stack(own))
            together.step()
            assert all(stacked.whole.grad is None for stacked, _ in stack.parameters), "used up"
        together.release()
        stack.release()
    for (cohort, optimizer), (other, expected) in zip(runs, alone, strict=True):
        torch.testing.assert_close(cohort.state_dict(), other.state_dict(), rtol=0, atol=0)
        found, wanted = optimizer.state_dict(), expected.state_dict()
        assert found["param_groups"] == wanted["param_groups"]
        torch.testing.assert_close(_buffers(found), _buffers(wanted), rtol=0, atol=0)
        assert all(_is_own(buffer) for buffer in _buffers(found).values())


def _buffers(state: dict) -> dict[int, torch.Tensor]:
    return {index: one["momentum_buffer"] for index, one in state["state"].items() if "momentum_buffer" in one}


def _is_own(tensor: torch.Tensor) -> bool:
    return tensor.untyped_storage().size() == tensor.numel() * tensor.element_size()
