"""The four losses from memory banks beside the evident way, which gathers a bank's slots once for every pair of peers.

    python -m benchmarks.bank [--repeats 5] [--batch 16] [--negatives 8192]

Prints one JSON line: seconds and peak bytes of forward and backward, N = 2 and 4, each peak in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from mcl_ray.contrast.bank import ContrastDraw, Drawn, MemoryBank
from mcl_ray.distributed import ALONE
from mcl_ray.losses.grid import ContrastGrid
from mcl_ray.losses.terms import contrastive_terms
from mcl_ray.results.store import Facts
from mcl_ray.spec import LossSpec

NUM_CLASSES, IMAGES_PER_CLASS, DIM = 100, 500, 128
WEIGHTS = LossSpec(tau=0.07)
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Case:
    """Unit embeddings of a batch, banks, and drawn slots."""

    def __init__(self, num_peers: int, batch: int, negatives: int, device: str) -> None:
        labels = torch.arange(NUM_CLASSES * IMAGES_PER_CLASS, device=device) % NUM_CLASSES
        generator = torch.Generator(device).manual_seed(0)
        self.bank = MemoryBank(num_peers, len(labels), DIM, momentum=0.5, generator=generator)
        embeddings = torch.randn(num_peers, batch, DIM, generator=generator, device=device)
        self.embeddings = F.normalize(embeddings, dim=-1).requires_grad_()
        draw = ContrastDraw(labels, positives=1, negatives=negatives)
        self.drawn: Drawn = draw(torch.arange(batch, device=device), generator, ALONE)

    def ours(self) -> ContrastGrid:
        """One gather of each bank, kept by nobody."""
        return self.bank.grid(self.embeddings, self.drawn, WEIGHTS.tau)

    def per_pair(self) -> ContrastGrid:
        """A gather of the bank for every pair, kept for the backward pass, as autograd does it."""
        peers = range(len(self.embeddings))

        def entry(i: int, j: int) -> Tensor:
            gathered_BMD = self.bank.slots[j][self.drawn.slots]
            return (gathered_BMD @ self.embeddings[i, :, :, None]).squeeze(-1) / WEIGHTS.tau

        logits = torch.stack([torch.stack([entry(i, j) for j in peers]) for i in peers])
        across = ~torch.eye(len(peers), dtype=torch.bool, device=logits.device)[:, :, None, None]
        leading = torch.arange(2, device=logits.device) > 0
        allowed = (across | leading).expand(-1, -1, logits.shape[2], -1)
        return ContrastGrid(logits=logits, positives=allowed, valid=allowed, own_slots=1)


def step(case: Case, way: str) -> Tensor:
    """Forward and backward; the gradient of the embeddings."""
    terms = contrastive_terms(getattr(case, way)(), WEIGHTS)
    (gradient,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), case.embeddings)
    return gradient


def peak_bytes(way: str, num_peers: int, batch: int, negatives: int, device: str) -> int:
    """Of a step, beyond what there was before it."""
    torch.set_num_threads(1)
    case = Case(num_peers, batch, negatives, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(case, way)
        return torch.cuda.max_memory_allocated() - before
    CLEAR.write_text("5")  # the peak from here on
    before = resident_peak()
    step(case, way)
    return resident_peak() - before


def resident_peak() -> int:
    """Bytes of this process that were ever in memory at once; Linux alone says so."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def seconds(case: Case, way: str, device: str) -> float:
    """Of one step."""
    started = time.perf_counter()
    step(case, way)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def measure(num_peers: int, batch: int, negatives: int, repeats: int, device: str) -> dict[str, object]:
    """Both ways in turn, once to warm up."""
    case = Case(num_peers, batch, negatives, device)
    torch.testing.assert_close(step(case, "ours"), step(case, "per_pair"), rtol=1e-3, atol=1e-5)
    took: dict[str, list[float]] = {"ours": [], "per_pair": []}
    for _ in range(repeats):
        for way, times in took.items():
            times.append(seconds(case, way, device))
    ratios = [slow / fast for slow, fast in zip(took["per_pair"], took["ours"], strict=True)]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        look = partial(peak_bytes, num_peers=num_peers, batch=batch, negatives=negatives, device=device)
        peaks = dict(zip(took, pool.map(look, took, chunksize=1), strict=True))
    return {
        "peers": num_peers,
        "seconds": {way: round(statistics.median(times), 4) for way, times in took.items()},
        "times_faster": {"median": round(statistics.median(ratios), 2), "least": round(min(ratios), 2)},
        "peak_bytes": peaks,
        "times_smaller": round(peaks["per_pair"] / max(peaks["ours"], 1), 2),
    }


def main() -> None:
    """Measure N = 2 and 4."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--negatives", type=int, default=8192)
    asked = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    facts = Facts()
    line = {
        "benchmark": "bank",
        "batch": asked.batch,
        "negatives": asked.negatives,
        "cases": [measure(peers, asked.batch, asked.negatives, asked.repeats, device) for peers in (2, 4)],
        "n": asked.repeats,
        "hardware": torch.cuda.get_device_name() if device == "cuda" else facts.hardware,
        "torch": facts.torch_version,
        "commit": facts.code_version,
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
