"""Selection of the networks of a run to export: one peer, or the ensemble of all. Does not import torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pyarrow as pa

from mcl_ray.config.registry import NETWORKS
from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import SpecError, StoreError
from mcl_ray.results.queries import Objective, accuracy, points

_TORCHVISION = "mcl_ray.models.resnet_imagenet"


@dataclass(frozen=True, kw_only=True)
class Member:
    """A peer, or the ensemble of all peers."""

    peers: tuple[int, ...]
    """Number of the peer, counted from 0; for the ensemble, those of all peers."""
    networks: tuple[str, ...]
    """Name of the network of each peer."""
    is_ensemble: bool = False
    chosen_on: str | None = None
    """Split on which the peer was the best, if it was chosen as the best."""
    chosen_by: str | None = None
    """Metric by which it was: top1, or knn_top1."""
    of: int = 1
    """Number of peers that the run has."""

    @property
    def name(self) -> str:
        """Name in the tables: `peer0` … or `ensemble`."""
        return "ensemble" if self.is_ensemble else f"peer{self.peers[0]}"

    @property
    def reason(self) -> str | None:
        """Reason for which the peer was chosen, as a clause; None unless it was chosen as the best of several."""
        if self.chosen_on is None or self.of == 1:
            return None
        metric = "kNN top-1" if self.chosen_by == "knn_top1" else "top-1"
        without = "" if self.chosen_on == "validation" else ", as the run has no validation split"
        return f"the peer with the highest {self.chosen_on} {metric}{without}, which flatters that figure"

    @property
    def is_torchvision(self) -> bool:
        """True if torchvision has the networks of all peers."""
        return all(NETWORKS[network].is_of(_TORCHVISION) for network in self.networks)

    @property
    def is_of_plugins(self) -> bool:
        """True if a plugin has the network of a peer."""
        return any(NETWORKS.module_of(network) is not None for network in self.networks)


def choose(text: str, spec: RunSpec, epochs: pa.Table) -> Member:
    """Return the member that a user asked for.

    Args:
        text: `best`, `ensemble`, or the number of a peer.
        spec: Spec of the run.
        epochs: Table of epochs of this run only. The best peer has the highest top-1 at the last epoch with validation
            figures; with test figures if there was no validation split, so that its test figure is too high.

    Raises:
        SpecError: `text` is none of these, or the run has no such peer or ensemble.
        StoreError: no figure says which peer is best.
    """
    networks = _networks(spec)
    size = len(networks)
    if text == "ensemble":
        if not spec.is_supervised:
            raise SpecError(
                f"an ensemble needs logits, but method={spec.method} has none; name a peer from 0 to {size - 1}"
            )
        return Member(peers=tuple(range(size)), networks=networks, is_ensemble=True)
    split = metric = None
    if text == "best":
        peer, split, metric = _best(size, epochs)
    else:
        peer = int(text) if text.isascii() and text.isdecimal() else size
    if peer >= size:
        raise SpecError(f"a peer must be best, ensemble or a number from 0 to {size - 1}, but got {text!r}")
    return Member(peers=(peer,), networks=(networks[peer],), chosen_on=split, chosen_by=metric, of=size)


def _networks(spec: RunSpec) -> tuple[str, ...]:
    """Return the name of the network of each peer in the tables."""
    features = spec.linear.features
    if spec.trains_networks or features == "each":
        return spec.cohort.peers
    if features == "mean":
        raise SpecError(
            "a single network must compute the features, but got linear.features=mean, which cannot be exported"
        )
    return (spec.cohort.peers[features],)


def _best(size: int, epochs: pa.Table) -> tuple[int, str, str]:
    """Return the number of the best peer, and the split and the metric by which it was the best."""
    metric = accuracy(epochs)
    for split in ("validation", "test"):
        curves = [points(epochs, Objective(split, metric, f"peer{i}")).values() for i in range(size)]
        last = [curve[-1].value for by_run in curves for curve in by_run]
        if last:
            return last.index(max(last, key=lambda value: -math.inf if math.isnan(value) else value)), split, metric
    raise StoreError(
        "the best peer is the one with the highest top-1 of validation or test, but the run has no such figure; "
        f"name a peer from 0 to {size - 1}"
    )
