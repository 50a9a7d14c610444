"""The contrast grid: the common form of every contrast set, and the only input of the four terms.

N peers, B anchors, M entries of the contrast set, of which the masks describe the first P.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ContrastGrid:
    """Similarities of peer i's embeddings to peer j's contrast set, for all i and j.

    The common form of the contrast sets of Yang et al., AAAI 2022 (arXiv 2104.12565), with e_i[a] the embedding of
    anchor a by peer i, and c_j[a, m] entry m of the contrast set that peer j has for this anchor, all of unit length:

        L_ij[a, m] = e_i[a] · c_j[a, m] / tau

    The masks broadcast against the first P entries of `logits`; the entries after them are valid negatives. The masks
    may depend on the pair (i, j) of peers through their first two axes.

    Shape:
        logits: [N, N, B, M]; positives, valid: [1 or N, 1 or N, B, P].

    Example:
        >>> import torch
        >>> mask = torch.tensor([True, False]).view(1, 1, 1, 2)  # of 3 entries, the first is positive
        >>> grid = ContrastGrid(logits=torch.zeros(2, 2, 1, 3), positives=mask, valid=torch.ones_like(mask))
        >>> tuple(grid.logits.shape)  # 2 peers, 1 anchor, 3 entries, of which the last is a negative without a mask
        (2, 2, 1, 3)
    """

    logits: Tensor
    """[N, N, B, M] cosine similarity / tau, float32 or float64."""
    positives: Tensor
    """[1 or N, 1 or N, B, P] bool, positive entries of each anchor."""
    valid: Tensor
    """[1 or N, 1 or N, B, P] bool, entries in the denominator of the hard terms; includes the positives."""
    own_slots: int = 0
    """Number of leading entries that Soft-VCL omits: the anchor's own image in a memory bank."""
