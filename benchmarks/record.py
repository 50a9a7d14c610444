"""How every benchmark leaves its figures: a JSON line with the machine, the versions, the commit and n."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence

import torch

from mcl_ray.results.store import Provenance


def print_line(benchmark: str, figures: Mapping[str, object], *, n: int, device: str = "cpu") -> None:
    """Print the line of one benchmark, or of one of its cases.

    Args:
        benchmark: Its name.
        figures: What was measured, and how it was set.
        n: How often each figure was measured.
        device: Where, `cpu` or `cuda`.
    """
    facts = Provenance()
    hardware = facts.hardware if device == "cpu" else f"{torch.cuda.get_device_name()}, {facts.hardware}"
    machine = {"n": n, "hardware": hardware, "torch": facts.torch_version, "commit": facts.code_version}
    print(json.dumps({"benchmark": benchmark, **figures, **machine}))


def ratios(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Of figures that were measured in turns: median, least and most of each over the one beside it."""
    each = [a / b for a, b in zip(above, below, strict=True)]
    spread = {"median": statistics.median(each), "min": min(each), "max": max(each)}
    return {name: round(value, 3) for name, value in spread.items()}
