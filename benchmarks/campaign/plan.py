"""Order and moments of the kills of a campaign, from its seed."""

from __future__ import annotations

import random
from collections.abc import Mapping


def kinds_of(kills: int, shares: Mapping[str, float], otherwise: str, moments: random.Random) -> list[str]:
    """Return what is killed, in a random order.

    Args:
        kills: Number of kills.
        shares: Kind → part of the kills.
        otherwise: Kind of the rest.
        moments: Source of the order.
    """
    kinds = [kind for kind, share in shares.items() for _ in range(round(share * kills))]
    kinds += [otherwise] * (kills - len(kinds))
    moments.shuffle(kinds)
    return kinds


def pause_s(mean_s: float, moments: random.Random) -> float:
    """Return the time until the next kill: exponential, so that no moment is more likely than another."""
    return min(moments.expovariate(1 / mean_s), 5 * mean_s)
