"""Contrast within the batch (CIFAR, supervised): the contrast set of every anchor is the batch.

N peers, B images of the batch, D embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mcl_ray.losses.grid import ContrastGrid


def in_batch_grid(embeddings_NBD: Tensor, labels_B: Tensor, image_ids_B: Tensor, tau: float) -> ContrastGrid:
    """Return the grid of a batch, computed by one matrix product.

    Yang et al., AAAI 2022 (arXiv 2104.12565), as in its code for CIFAR, with e_i[a] the embedding of image a by peer i:

        L_ij[a, b] = e_i[a] · e_j[b] / tau

    The positives of anchor a are the other images of its class. The anchor's own image, even if the batch contains it
    twice, is neither positive nor negative, also for i≠j. The soft terms include it: they use all of `logits`.

    The product is computed in float32 (float64 for float64 embeddings) even under autocast: exp(1/tau) overflows
    float16.

    Args:
        embeddings_NBD: the peers' embeddings.
        labels_B: classes of the images.
        image_ids_B: indices of the images in the training set, equal for the same image.
        tau: contrastive temperature.

    Shape:
        embeddings_NBD: [N, B, D] of unit length; labels_B, image_ids_B: [B] int64; the grid's logits are [N, N, B, B].

    Example:
        >>> import torch
        >>> embeddings = torch.eye(2).expand(2, -1, -1)  # 2 equal peers, 2 images of one class, D = 2
        >>> grid = in_batch_grid(embeddings, torch.tensor([0, 0]), torch.arange(2), tau=0.5)
        >>> grid.logits[0, 1].tolist()
        [[2.0, 0.0], [0.0, 2.0]]
        >>> grid.positives[0, 0].tolist()
        [[False, True], [True, False]]
    """
    num_peers, batch_size, _ = embeddings_NBD.shape
    with torch.autocast(embeddings_NBD.device.type, enabled=False):
        rows = embeddings_NBD.to(torch.promote_types(embeddings_NBD.dtype, torch.float32)).flatten(0, 1)
        similarities = (rows @ rows.T).div_(tau)
    logits_NNBB = similarities.view(num_peers, batch_size, num_peers, batch_size).transpose(1, 2)
    valid = image_ids_B[:, None] != image_ids_B[None, :]
    positives = (labels_B[:, None] == labels_B[None, :]) & valid
    return ContrastGrid(logits=logits_NNBB, positives=positives[None, None], valid=valid[None, None])
