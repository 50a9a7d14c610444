import pytest
import torch

from benchmarks.losses import LossesCase


@pytest.mark.parametrize("num_peers", [2, 3])
def test_both_implementations_of_the_benchmark_compute_the_same_gradient(num_peers):
    case = LossesCase(num_peers, "cpu", batch=6, dim=5)
    torch.testing.assert_close(case.ours(), case.evident(), rtol=1e-4, atol=1e-6)
