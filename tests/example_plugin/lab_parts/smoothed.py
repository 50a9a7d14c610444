"""Cross-entropy with smoothed labels, by peers that do not exchange anything.

N peers, B images, C classes.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from mcl_ray.methods.method import Batch, Method, StepLosses, outputs


class Smoothed(Method):
    """Σ over peers of the cross-entropy with label smoothing of 0.1."""

    def losses(self, batch: Batch) -> StepLosses:
        """Compute the losses of a batch: this worker's part of them."""
        logits_NBC = outputs(self.peers, batch.images, bf16=self.bf16).logits
        smoothed = [F.cross_entropy(logits_BC, batch.labels, label_smoothing=0.1) for logits_BC in logits_NBC]
        total = batch.shares.weight * torch.stack(smoothed).sum()
        return StepLosses(total, {"cross_entropy": total})
