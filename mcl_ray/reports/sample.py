"""The configurations of a very large sweep that figures draw and tables list: a sample, which says that it is one.

Up to `MAX_SHOWN` configurations, figures and tables have all of them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from mcl_ray.analysis.ranking import Ranked

MAX_SHOWN = 1000
"""Most configurations of a figure or a table, but for some that always belong to it."""


def drawn(rows: Sequence[Ranked], always: Collection[Ranked] = ()) -> list[Ranked]:
    """Return the configurations that a figure draws: the best, evenly spaced ones of the ranking, and `always`."""
    step = math.ceil(len(rows) / MAX_SHOWN)
    if step <= 1:
        return list(rows)
    kept = {id(row) for row in always}
    return [row for place, row in enumerate(rows) if place % step == 0 or id(row) in kept]


def drawn_note(num_rows: int) -> str:
    """Return the sentence that a figure of so many configurations draws some of them; empty if it draws all."""
    step = math.ceil(num_rows / MAX_SHOWN)
    return f"Of {num_rows:,} configurations, one in {step} is drawn, evenly over the ranking." if step > 1 else ""


def listed(rows: Sequence[Ranked]) -> list[Ranked]:
    """Return the configurations that a table lists: the first ones, and those for comparison."""
    return [row for place, row in enumerate(rows) if place < MAX_SHOWN or row.is_compared]


def listed_note(num_rows: int) -> str:
    """Return the sentence that a table of so many configurations lists some of them; empty if it lists all."""
    return f"The first {MAX_SHOWN:,} of {num_rows:,} configurations are listed." if num_rows > MAX_SHOWN else ""
