"""Batch normalisation with the statistics of the whole batch, however many workers share it.

Networks are built with plain batch normalisation; `placement` exchanges it. Names of tensors stay as they are.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from mcl_ray.distributed import all_reduce_sum, rank, world_size

# W workers, B images of this worker, C channels, H × W pixels


def synchronise_batch_norm(module: nn.Module, device: torch.device) -> nn.Module:
    """Exchange every batch normalisation within `module` for one over all workers; its tensors are taken over.

    torch's own refuses tensors on a CPU.
    """
    if device.type == "cuda":
        convert = nn.SyncBatchNorm.convert_sync_batchnorm
        return cast("nn.Module", convert(module))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, SynchronisedBatchNorm.taking_over(child))
        else:
            synchronise_batch_norm(child, device)
    return module


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over all that W workers have of a batch; written for CPUs.

    Every worker tells its mean and variance of each channel, and of how many values, in one exchange. The variance of
    the whole is the mean of the parts' variances plus the variance of their means, so that no large numbers are
    subtracted.
    """

    @classmethod
    def taking_over(cls, norm: nn.BatchNorm2d) -> SynchronisedBatchNorm:
        """The same layer, synchronised; it holds the tensors of `norm`, not copies."""
        new = cls(norm.num_features, norm.eps, norm.momentum, device="meta")
        new.weight, new.bias, new.training = norm.weight, norm.bias, norm.training
        new.running_mean, new.running_var = norm.running_mean, norm.running_var
        new.num_batches_tracked = norm.num_batches_tracked
        return new

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        """Normalise with the batch's statistics in training, with the running ones in evaluation."""
        if not self.training:
            return super().forward(maps_BCHW)
        maps = maps_BCHW.to(torch.promote_types(maps_BCHW.dtype, torch.float32))
        var_C, mean_C = torch.var_mean(maps, dim=(0, 2, 3), correction=0)
        mean_C, var_C, count = _of_all_workers(mean_C, var_C, maps[:, 0].numel())
        self._run(mean_C.detach(), var_C.detach(), count)
        scale_C = self.weight * (var_C + self.eps).rsqrt()
        shift_C = self.bias - mean_C * scale_C
        return torch.addcmul(shift_C[:, None, None], maps, scale_C[:, None, None]).to(maps_BCHW.dtype)

    def _run(self, mean_C: Tensor, var_C: Tensor, count: Tensor) -> None:
        """Let the running statistics follow; the variance without bias, as torch has it."""
        running = (self.num_batches_tracked, self.running_mean, self.running_var)
        batches, running_mean_C, running_var_C = (cast("Tensor", tensor) for tensor in running)
        momentum = cast("float", self.momentum)
        batches.add_(1)
        running_mean_C.lerp_(mean_C, momentum)
        running_var_C.lerp_(var_C * (count / (count - 1)), momentum)


def _of_all_workers(mean_C: Tensor, var_C: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, variance and number of values of the whole, from those of its parts."""
    own_3C = torch.stack([mean_C, var_C, torch.full_like(mean_C, count)])
    others = world_size() - 1
    all_W3C = all_reduce_sum(nn.functional.pad(own_3C[None], (0, 0, 0, 0, rank(), others - rank())))
    means_WC, vars_WC, counts_WC = all_W3C.unbind(1)
    total_C = counts_WC.sum(0)
    weights_WC = counts_WC / total_C
    whole_C = (weights_WC * means_WC).sum(0)
    return whole_C, (weights_WC * (vars_WC + (means_WC - whole_C).square())).sum(0), total_C
