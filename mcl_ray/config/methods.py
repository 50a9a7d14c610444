"""Registry of the training methods: what specs, searches and reports need to know of each, without importing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mcl_ray.config.registry import Registry

FORWARD_AND_BACKWARD = 3
"""Duration of a step in forward passes of all peers: a backward pass counts as two."""


@dataclass(frozen=True, kw_only=True)
class MethodEntry:
    """Registration of a training method; the defaults are those of supervised learning from single views."""

    builder: str | Callable[..., Any]
    """Subclass of `methods.method.Method`, or its `module:class`."""
    is_supervised: bool = True
    """True if the peers have classifiers that learn from labels; otherwise they are scored by nearest neighbours."""
    trains_networks: bool = True
    """True if networks are trained; otherwise they are frozen, and their features are classified."""
    num_views: int = 1
    """Number of views of each training image in a batch; more than one requires images that are decoded on demand."""
    needs_contrast: bool = False
    """True if nothing but the contrastive terms trains the peers, so that a weight of them must be positive."""
    has_grid: bool = False
    """True if the contrastive terms are computed from a grid, so that `losses.extra` has an effect."""
    contrasts_locally: bool = False
    """True if `losses.contrast=local` has an effect."""
    splits_peers: bool = False
    """True if the peers may be on different workers: the losses are computed from the outputs of all peers, and so is
    the method's state, except copies of the cohort, which `Cohort.state_of_all_peers` stores."""
    own_fields: tuple[str, ...] = ()
    """Fields of a spec that have an effect with this method and those that name them too; `bank.` are all below."""
    passes: int = FORWARD_AND_BACKWARD
    """Duration of a step in forward passes of all peers, for estimates."""


UNKNOWN = MethodEntry(builder="", has_grid=True, contrasts_locally=True)
"""Entry of a method that no module in this process has registered."""
METHODS: Registry[MethodEntry] = Registry(
    "method",
    {
        "supervised": MethodEntry(
            builder="mcl_ray.methods.supervised:Supervised", has_grid=True, contrasts_locally=True, splits_peers=True
        ),
        "supervised_bank": MethodEntry(
            builder="mcl_ray.methods.supervised_bank:SupervisedBank",
            has_grid=True,
            splits_peers=True,
            own_fields=("bank.",),
        ),
        "moco": MethodEntry(
            builder="mcl_ray.methods.moco:Moco",
            is_supervised=False,
            num_views=2,
            needs_contrast=True,
            splits_peers=True,
            own_fields=("queue.",),
            passes=FORWARD_AND_BACKWARD + 1,  # the key encoders have a forward pass of their own
        ),
        "linear": MethodEntry(
            builder="mcl_ray.methods.linear:Linear", trains_networks=False, own_fields=("linear.",), passes=1
        ),
    },
)
