"""The contrast grid: the common form of every contrast set, and the only input of the four terms.

N peers, B anchors, M entries of the contrast set, of which the masks describe the first P.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ContrastGrid:
    """Similarities of peer i's embeddings to peer j's contrast set, for all i and j.

    The masks broadcast against the first P entries of `logits`; the entries after them are valid negatives. The masks
    may depend on the pair (i, j) of peers through their first two axes.
    """

    logits: Tensor
    """[N, N, B, M] cosine similarity / tau, float32 or float64."""
    positives: Tensor
    """[1 or N, 1 or N, B, P] bool, positive entries of each anchor."""
    valid: Tensor
    """[1 or N, 1 or N, B, P] bool, entries in the denominator of the hard terms; includes the positives."""
    own_slots: int = 0
    """Number of leading entries that Soft-VCL omits: the anchor's own image in a memory bank."""
