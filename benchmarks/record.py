"""Output of the benchmarks: a JSON line with the figures, the machine, the versions, the commit and n."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence

from mcl_ray.results.provenance import Provenance


def print_line(benchmark: str, figures: Mapping[str, object], *, n: int, device: str = "cpu") -> None:
    """Print the line of one benchmark, or of one of its cases; the arguments are those of `line`."""
    print(json.dumps(line(benchmark, figures, n=n, device=device)))


def line(benchmark: str, figures: Mapping[str, object], *, n: int, device: str = "cpu") -> dict[str, object]:
    """Return the figures of one benchmark, or of one of its cases, with the machine, the versions and the commit.

    Args:
        benchmark: Name of the benchmark.
        figures: Measured figures, and their settings.
        n: Number of measurements of each figure.
        device: Device that was measured, `cpu` or `cuda`.
    """
    provenance = Provenance()
    hardware = provenance.hardware
    if device != "cpu":
        import torch

        hardware = f"{torch.cuda.get_device_name()}, {hardware}"
    machine = {"n": n, "hardware": hardware, "torch": provenance.torch_version, "commit": provenance.code_version}
    return {"benchmark": benchmark, **figures, **machine}


def ratios(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Return median, minimum and maximum of the quotients of figures that were measured in turns."""
    each = [a / b for a, b in zip(above, below, strict=True)]
    spread = {"median": statistics.median(each), "min": min(each), "max": max(each)}
    return {name: round(value, 3) for name, value in spread.items()}
