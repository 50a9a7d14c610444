"""Batch normalisation with the statistics of the whole batch, over all workers that share it.

Networks are built with ordinary batch normalisation; `build` replaces it. The names of tensors do not change.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from mcl_ray.distributed import Subgroup, all_reduce_sum, all_workers

# W workers, B images of this worker, C channels, H × W pixels


def synchronise_batch_norm(module: nn.Module, device: torch.device, workers: Subgroup | None = None) -> nn.Module:
    """Replace every batch normalisation in `module` by one over all workers, or some, which uses the same tensors.

    On CUDA this is torch's SyncBatchNorm; on a CPU, which that does not support, `SynchronisedBatchNorm`.

    Args:
        module: the networks, changed in place.
        device: device of the networks.
        workers: workers that share each batch; None: all.
    """
    workers = workers or all_workers()
    if device.type == "cuda":
        convert = nn.SyncBatchNorm.convert_sync_batchnorm
        return cast("nn.Module", convert(module, workers.process_group))  # type: ignore[no-untyped-call]  # untyped
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, SynchronisedBatchNorm.from_batch_norm(child, workers))
        else:
            synchronise_batch_norm(child, device, workers)
    return module


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the images of W workers; for CPUs.

    The workers exchange the mean, variance and number of values of each channel in one collective. The variance of the
    whole is the mean of the parts' variances plus the variance of their means; this subtracts no large numbers.
    """

    workers: Subgroup
    """The workers, which share each batch."""

    @classmethod
    def from_batch_norm(cls, norm: nn.BatchNorm2d, workers: Subgroup) -> SynchronisedBatchNorm:
        """Build the synchronised form of a layer; it uses the tensors of `norm`, not copies."""
        new = cls(norm.num_features, norm.eps, norm.momentum, device="meta")
        new.weight, new.bias, new.training = norm.weight, norm.bias, norm.training
        new.running_mean, new.running_var = norm.running_mean, norm.running_var
        new.num_batches_tracked = norm.num_batches_tracked
        new.workers = workers
        return new

    def forward(self, maps_BCHW: Tensor) -> Tensor:
        """Normalise [B, C, H, W], with the whole batch's statistics in training and the running ones in evaluation."""
        if not self.training:
            return super().forward(maps_BCHW)
        maps = maps_BCHW.to(torch.promote_types(maps_BCHW.dtype, torch.float32))
        var_C, mean_C = torch.var_mean(maps, dim=(0, 2, 3), correction=0)
        mean_C, var_C, count = _all_reduce_statistics(mean_C, var_C, maps[:, 0].numel(), self.workers)
        self._update_running(mean_C.detach(), var_C.detach(), count)
        scale_C = self.weight * (var_C + self.eps).rsqrt()
        shift_C = self.bias - mean_C * scale_C
        return torch.addcmul(shift_C[:, None, None], maps, scale_C[:, None, None]).to(maps_BCHW.dtype)

    def _update_running(self, mean_C: Tensor, var_C: Tensor, count: Tensor) -> None:
        """Update the running statistics, with the unbiased variance, as torch does."""
        running = (self.num_batches_tracked, self.running_mean, self.running_var)
        batches, running_mean_C, running_var_C = (cast("Tensor", tensor) for tensor in running)
        momentum = cast("float", self.momentum)
        batches.add_(1)
        running_mean_C.lerp_(mean_C, momentum)
        running_var_C.lerp_(var_C * (count / (count - 1)), momentum)


def _all_reduce_statistics(
    mean_C: Tensor, var_C: Tensor, count: int, workers: Subgroup
) -> tuple[Tensor, Tensor, Tensor]:
    """Combine the workers' means, variances and numbers of values into those of the whole batch."""
    own_3C = torch.stack([mean_C, var_C, torch.full_like(mean_C, count)])
    before, after = workers.rank, workers.size - 1 - workers.rank
    all_W3C = all_reduce_sum(nn.functional.pad(own_3C[None], (0, 0, 0, 0, before, after)), workers)
    means_WC, vars_WC, counts_WC = all_W3C.unbind(1)
    total_C = counts_WC.sum(0)
    weights_WC = counts_WC / total_C
    whole_C = (weights_WC * means_WC).sum(0)
    return whole_C, (weights_WC * (vars_WC + (means_WC - whole_C).square())).sum(0), total_C
