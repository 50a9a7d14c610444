"""Intervals of means over seeds, and of differences between configurations, from Student's t distribution."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""Quantile 0.975 of Student's t for 1, 2, … degrees of freedom; SciPy is no dependency of the analysis."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over seeds, and the 95 % interval of the true mean."""

    mean: float
    low: float
    high: float
    n: int
    """Number of seeds."""

    @property
    def excludes_zero(self) -> bool:
        """Return whether the true mean is unlikely to be zero."""
        return self.low > 0 or self.high < 0


def interval(values: Sequence[float]) -> Interval | None:
    """Return the 95 % interval of the mean of these values; None for fewer than two, which have no spread.

    With more than 16 values the quantile of 16 is used, so that the interval is slightly too wide.
    """
    n = len(values)
    if n < 2:
        return None
    mean = statistics.fmean(values)
    reach = T_95[min(n - 1, len(T_95)) - 1] * statistics.stdev(values) / n**0.5
    return Interval(mean=mean, low=mean - reach, high=mean + reach, n=n)


def paired_difference(ours: Mapping[int, float], others: Mapping[int, float]) -> Interval | None:
    """Return the interval of the mean difference over the seeds that both have; None for fewer than two seeds.

    Args:
        ours: Seed → value of a configuration.
        others: Seed → value of the one it is compared with.
    """
    return interval([ours[seed] - others[seed] for seed in sorted(ours.keys() & others.keys())])
