import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import evident
from mcl_ray.cohort import build_cohort
from mcl_ray.config.spec import CohortSpec, LossSpec, OptimizerSpec
from mcl_ray.methods.method import Batch, outputs, weighted_sum
from mcl_ray.methods.supervised import supervised_losses
from mcl_ray.training.metrics import StepMeter
from mcl_ray.training.optim import build_optimizer


def a_batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(4).repeat_interleave(2)
    return Batch(torch.randn(8, 3, 16, 16, generator=generator), labels, torch.arange(8))


@pytest.mark.parametrize("cohort", [CohortSpec(size=2, networks="resnet8"), CohortSpec(size=3, networks="resnet8")])
def test_the_fast_step_follows_the_evident_one(cohort):
    """Same seed, same curve: the batched, channels-last step against peers and pairs one after another."""
    curves = []
    for fast in (False, True):
        torch.manual_seed(0)
        model = build_cohort(cohort, num_classes=4)
        curve = []
        if fast:
            model = model.to(memory_format=torch.channels_last)
            optimizer = build_optimizer(model, OptimizerSpec(lr=0.01))
        else:
            optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
        for step in range(4):
            batch = a_batch(step)
            if not fast:
                curve.append(list(evident.step(model, optimizer, batch.images, batch.labels, LossSpec()).values()))
                continue
            losses = supervised_losses(model, batch, LossSpec())
            optimizer.zero_grad()
            losses.total.backward()
            optimizer.step()
            terms = losses.terms | {"loss": losses.total}
            curve.append(
                [
                    float(terms[name].detach())
                    for name in ("cross_entropy", "vcl", "icl", "soft_vcl", "soft_icl", "loss")
                ]
            )
        curves.append(torch.tensor(curve))
    torch.testing.assert_close(curves[1], curves[0], rtol=2e-3, atol=1e-4)


def test_weights_scale_their_own_term():
    values = {
        "cross_entropy": 1.0,
        "logit_distillation": 10.0,
        "vcl": 100.0,
        "icl": 1e3,
        "soft_vcl": 1e4,
        "soft_icl": 1e5,
    }
    weights = LossSpec(alpha=2, beta=3, gamma=5, lam=7)
    total = weighted_sum({name: torch.tensor(value) for name, value in values.items()}, weights)
    assert float(total) == 1 + 10 + 200 + 3e3 + 5e4 + 7e5


def test_no_weights_no_contrast():
    model = build_cohort(CohortSpec(size=2, networks="resnet8"), num_classes=4)
    losses = supervised_losses(model, a_batch(), LossSpec(alpha=0, beta=0, gamma=0, lam=0))
    assert list(losses.terms) == ["cross_entropy"]
    losses.total.backward()
    assert all(parameter.grad is None for parameter in model.heads.parameters())


def test_logit_distillation_is_part_of_the_total():
    model = build_cohort(CohortSpec(size=2, networks="resnet8"), num_classes=4)
    weights = LossSpec(alpha=0, beta=0, gamma=0, lam=0, logit_distillation="all")
    losses = supervised_losses(model, a_batch(), weights)
    assert set(losses.terms) == {"cross_entropy", "logit_distillation"}
    assert float(losses.total.detach()) == pytest.approx(sum(float(v.detach()) for v in losses.terms.values()))


def test_bf16_keeps_every_loss_in_float32():
    model = build_cohort(CohortSpec(size=2, networks="resnet8"), num_classes=4)
    losses = supervised_losses(model, a_batch(), LossSpec(logit_distillation="all"), bf16=True)
    assert {value.dtype for value in losses.terms.values()} == {torch.float32}
    assert outputs(model, a_batch().images, bf16=True).logits.dtype == torch.float32
    losses.total.backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters())


def test_a_step_reads_nothing_back_from_the_device():
    """On a GPU every such read would make the host wait; here each shows as an operation."""
    model = build_cohort(CohortSpec(size=3, networks="resnet8"), num_classes=4)
    optimizer = build_optimizer(model, OptimizerSpec())
    meter = StepMeter(10, torch.device("cpu"))
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        losses = supervised_losses(model, a_batch(), LossSpec(logit_distillation="all"))
        optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        optimizer.step()
        meter.record(losses.terms | {"loss": losses.total})
    seen = {event.key for event in recorded.key_averages()}
    assert "aten::convolution" in seen
    assert not seen & {"aten::item", "aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero"}
