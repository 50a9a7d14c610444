"""Terms of the loss that plugins add, computed from the contrast grid.

N peers, B anchors, M entries of the contrast set.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mcl_ray.config.loss_terms import LOSS_TERMS
from mcl_ray.errors import SpecError, unknown
from mcl_ray.losses.grid import ContrastGrid


def extra_terms(grid: ContrastGrid, weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Compute the unweighted terms of plugins whose weight is not zero, by name.

    Args:
        grid: logits and masks of all pairs of peers.
        weights: name → weight, `losses.extra` of the spec.

    Shape:
        grid.logits: [N, N, B, M]; every value returned is a scalar.

    Raises:
        SpecError: no plugin has registered a term of this name, or its function does not return a scalar.

    Example:
        >>> import torch
        >>> from mcl_ray import register
        >>> @register.loss_term("mean_logit")
        ... def mean_logit(grid):
        ...     return grid.logits.mean()
        >>> mask = torch.ones(1, 1, 1, 2, dtype=torch.bool)
        >>> grid = ContrastGrid(logits=torch.full((2, 2, 1, 2), 0.5), positives=mask, valid=mask)
        >>> extra_terms(grid, {"mean_logit": 0.1})
        {'mean_logit': tensor(0.5000)}
    """
    return {name: _term(name, grid) for name, weight in weights.items() if weight}


def _term(name: str, grid: ContrastGrid) -> Tensor:
    entry = LOSS_TERMS.get(name)
    if entry is None or entry.function is None:
        raise SpecError(unknown("loss term", name, LOSS_TERMS))
    term = entry.function(grid)
    if not isinstance(term, Tensor) or term.ndim:
        found = list(term.shape) if isinstance(term, Tensor) else type(term).__name__
        raise SpecError(f"a loss term must be a tensor without dimensions, but that of {name!r} is {found}")
    return term
