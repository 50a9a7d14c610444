import numpy as np
import pytest
import torch

from mcl_ray.losses.distill import logit_distillation
from tests.oracles import contrast as oracle


def test_value_and_gradient_of_the_published_code(reference_dir):
    with np.load(reference_dir / "logit_distillation.npz") as arrays:
        cases = {key.split("/")[0] for key in arrays.files}
        assert cases
        for case in cases:
            logits = torch.tensor(arrays[f"{case}/logits"], requires_grad=True)
            loss = logit_distillation(logits, float(arrays[f"{case}/temperature"]), "reference")
            torch.testing.assert_close(
                loss.detach(), torch.tensor(arrays[f"{case}/loss"]).to(loss.dtype), rtol=1e-5, atol=0
            )
            loss.backward()
            want = torch.tensor(arrays[f"{case}/grad"])
            assert (logits.grad - want).norm() <= 1e-4 * want.norm()


@pytest.mark.parametrize("num_peers", [1, 2, 3, 5])
@pytest.mark.parametrize("learners", ["all", "reference"])
def test_who_learns_matches_the_loops(num_peers, learners):
    generator = torch.Generator().manual_seed(num_peers)
    logits = torch.randn(num_peers, 4, 6, generator=generator).double().requires_grad_()
    who = list(range(num_peers)) if learners == "all" or num_peers == 2 else [num_peers - 1]
    fast, slow = logit_distillation(logits, 3.0, learners), oracle.logit_distillation(logits, 3.0, who)
    torch.testing.assert_close(fast.double(), slow, rtol=1e-5, atol=1e-6)
    got, want = (torch.autograd.grad(v, logits)[0] for v in (fast, slow))
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


def test_the_teacher_does_not_learn():
    logits = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    logit_distillation(logits, 3.0, "reference").backward()
    assert torch.count_nonzero(logits.grad[:-1]) == 0
    assert torch.count_nonzero(logits.grad[-1]) > 0
