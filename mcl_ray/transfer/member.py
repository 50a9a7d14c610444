"""Which networks of a run are exported: one peer, or the ensemble of all. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from mcl_ray.config.registry import NETWORKS
from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import SpecError, StoreError
from mcl_ray.results.queries import Objective, accuracy, points

OUTPUTS = {"supervised": "logits", "supervised_bank": "logits", "moco": "features", "linear": "logits"}
"""Method → what its networks give."""
_TORCHVISION = "mcl_ray.models.resnet_imagenet:"


@dataclass(frozen=True, kw_only=True)
class Member:
    """A peer or the ensemble."""

    peers: tuple[int, ...]
    """The peer's number; those of all, for the ensemble."""
    networks: tuple[str, ...]
    """The network of each."""
    is_ensemble: bool = False
    chosen_on: str | None = None
    """The split on which it was the best of the peers, if that is why it was chosen."""

    @property
    def name(self) -> str:
        """`peer0` … or `ensemble`, as in the tables."""
        return "ensemble" if self.is_ensemble else f"peer{self.peers[0]}"

    @property
    def is_torchvision(self) -> bool:
        """Whether torchvision has a network for each."""
        return all(NETWORKS[network].builder.startswith(_TORCHVISION) for network in self.networks)


def choose(text: str, spec: RunSpec, epochs: pa.Table) -> Member:
    """The member that `best`, `ensemble` or a number stands for.

    Args:
        text: What a person wrote.
        spec: Of the run.
        epochs: The figures of this run alone. The best peer has the highest top-1 at the last epoch with figures of
            test, or of validation where there are none of test.

    Raises:
        SpecError: it is none of these, or there is no such peer.
        StoreError: no figure tells which peer is best.
    """
    networks = _networks(spec)
    size = len(networks)
    if text == "ensemble":
        if OUTPUTS[spec.method] == "features":
            raise SpecError(
                f"an ensemble is of logits, but method={spec.method} has none; name a peer from 0 to {size - 1}"
            )
        return Member(peers=tuple(range(size)), networks=networks, is_ensemble=True)
    chosen_on = None
    if text == "best":
        peer, chosen_on = _best(size, epochs)
    else:
        peer = int(text) if text.isascii() and text.isdecimal() else size
    if peer >= size:
        raise SpecError(f"a peer is best, ensemble or a number from 0 to {size - 1}, but got {text!r}")
    return Member(peers=(peer,), networks=(networks[peer],), chosen_on=chosen_on)


def _networks(spec: RunSpec) -> tuple[str, ...]:
    """The network behind each peer of the tables."""
    features = spec.linear.features
    if spec.method != "linear" or features == "each":
        return spec.cohort.peers
    if features == "mean":
        raise SpecError("the mean of features is of no one network: linear.features=mean cannot be exported")
    return (spec.cohort.peers[features],)


def _best(size: int, epochs: pa.Table) -> tuple[int, str]:
    """The best peer, and the split it was the best on."""
    metric = accuracy(epochs)
    for split in ("test", "validation"):
        curves = [points(epochs, Objective(split, metric, f"peer{i}")).values() for i in range(size)]
        last = [curve[-1].value for by_run in curves for curve in by_run]
        if last:
            return last.index(max(last)), split
    raise StoreError(
        "the best peer is the one with the highest top-1 of test or validation, but the run has no such figure; "
        f"name a peer from 0 to {size - 1}"
    )
