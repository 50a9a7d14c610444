"""The contrast grid: what every source of contrast reduces to, and all that the four terms look at.

N peers, B anchors, M entries of the contrast set, P of them told of by masks.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ContrastGrid:
    """Similarities of peer i's embeddings to peer j's contrast set, for all i and j.

    Masks broadcast against the first P entries of `logits`, the entries after them are valid negatives; the diagonal
    entries (i, i) may differ from the others through the first two axes.
    """

    logits: Tensor
    """[N, N, B, M] cosine similarity / tau, float32 or float64."""
    positives: Tensor
    """[1 or N, 1 or N, B, P] bool: entries that the anchor is to be close to."""
    valid: Tensor
    """[1 or N, 1 or N, B, P] bool: entries in the denominator of the hard terms, positives among them."""
    own_slots: int = 0
    """How many entries, the first ones, Soft-VCL leaves out: the anchor's own image, where a peer remembers it."""
