"""Contrast within the batch (CIFAR, supervised): every image of the batch is in every anchor's contrast set.

N peers, B images of the batch, D embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mcl_ray.losses.grid import ContrastGrid


def in_batch_grid(embeddings_NBD: Tensor, labels_B: Tensor, image_ids_B: Tensor, tau: float) -> ContrastGrid:
    """The grid of a batch: entry (i, j)[a, b] = e_i[a]·e_j[b] / tau, all of it from one matrix product.

    Positives of anchor a are the other images of its class. The anchor's own image, also when it was drawn twice, is
    neither positive nor negative, for i≠j as well. The soft terms keep it: they look at all of `logits`.

    The product runs in float32 (float64 for float64 embeddings) whatever autocast says: exp(1/tau) overflows float16.

    Shape:
        embeddings_NBD: [N, B, D] of unit length; labels_B: [B]; image_ids_B: [B], equal for the same image.
    """
    num_peers, batch_size, _ = embeddings_NBD.shape
    with torch.autocast(embeddings_NBD.device.type, enabled=False):
        rows = embeddings_NBD.to(torch.promote_types(embeddings_NBD.dtype, torch.float32)).flatten(0, 1)
        similarities = rows @ rows.T / tau
    logits_NNBB = similarities.view(num_peers, batch_size, num_peers, batch_size).transpose(1, 2)
    valid = image_ids_B[:, None] != image_ids_B[None, :]
    positives = (labels_B[:, None] == labels_B[None, :]) & valid
    return ContrastGrid(logits=logits_NNBB, positives=positives[None, None], valid=valid[None, None])
