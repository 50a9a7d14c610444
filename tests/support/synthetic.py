"""Synthetic results without training: runs and sweeps with plausible curves, written by the real writers."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mcl_ray.analysis.roles import BASELINE
from mcl_ray.config.spec import CohortSpec, LossSpec, RunSpec, ScheduleSpec
from mcl_ray.results.schema import RunState
from mcl_ray.results.store import EpochRow, Provenance, RunWriter, SweepWriter

PROVENANCE = Provenance(host="here", hardware="a processor, 2 cores", code_version="0.1.0", torch_version="2.11.0")
TERMS = {"loss": 9.0, "cross_entropy": 6.0, "vcl": 8.0, "icl": 16.0, "soft_vcl": 0.3, "soft_icl": 0.2}


class SweepSpec(BaseModel):
    """A stand-in for the spec of a search."""

    trials: int = 1
    note: str = ""
    score: dict[str, Any] = {}
    repeats: int = 1
    costs: tuple[str, ...] = ()
    run: dict[str, Any] = {}


def epoch_rows(epoch: int, num_peers: int, level: float, splits: Sequence[str] = ("validation",)) -> list[EpochRow]:
    chance = random.Random(f"{epoch}-{num_peers}-{level}")
    losses = {term: start / epoch**0.5 * chance.uniform(0.9, 1.1) for term, start in TERMS.items()}
    rows = [EpochRow("cohort", "train", term, loss) for term, loss in losses.items()]
    for split in splits:
        top1 = [level * (1 - math.exp(-epoch / 8)) + chance.gauss(0, 0.8) for _ in range(num_peers)]
        named = {f"peer{place}": value for place, value in enumerate(top1)}
        named |= {"mean": sum(top1) / num_peers, "best": max(top1), "ensemble": max(top1) + 1.5}
        rows += [EpochRow(member, split, "top1", value) for member, value in named.items()]
        rows += [EpochRow(member, split, "top5", min(100.0, value + 15)) for member, value in named.items()]
        if num_peers > 1:
            rows.append(EpochRow("cohort", split, "agreement", min(100.0, 35 + 0.8 * named["mean"])))
    return rows


def spec(num_peers: int = 2, epochs: int = 10, seed: int = 0, **losses: float) -> RunSpec:
    return RunSpec(
        recipe="cifar",
        seed=seed,
        cohort=CohortSpec(size=num_peers),
        losses=LossSpec(**losses),
        schedule=ScheduleSpec(epochs=epochs),
    )


def write_run(
    root: Path,
    run_spec: RunSpec,
    *,
    level: float = 70.0,
    state: RunState = "finished",
    epochs: int | None = None,
    error: BaseException | None = None,
    splits: Sequence[str] = ("validation",),
    run_id: str | None = None,
    **where: Any,
) -> str:
    """Write a run, under the next free name of its spec unless `run_id` is its name."""
    if run_id is None:
        opened = RunWriter.create(root, run_spec, provenance=PROVENANCE, **where)
    else:
        opened = RunWriter.begin(root, run_id, run_spec, provenance=PROVENANCE, **where)
    with opened as writer:
        size = run_spec.cohort.size
        writer.describe(parameters=77_000 * size, multiply_adds=1_200_000 * size)
        for epoch in range(1, (run_spec.schedule.epochs if epochs is None else epochs) + 1):
            writer.record_epoch(epoch, epoch_rows(epoch, run_spec.cohort.size, level, splits))
        writer.finish(state, error)
    return writer.run_id


def write_checkpoint(folder: Path, epoch: int) -> None:
    """Write a checkpoint as the training loop does: named by its content, keeping the last two."""
    content = b"weights %d" % epoch
    folder.mkdir(exist_ok=True)
    (folder / f"epoch-{epoch:04d}-{hashlib.sha256(content).hexdigest()[:16]}.pt").write_bytes(content)
    for old in sorted(folder.glob("*.pt"))[:-2]:
        old.unlink()


def record_epochs(writer: RunWriter, *epochs: int) -> None:
    """Write the checkpoint of each epoch, then its figures, as the training loop does."""
    for epoch in epochs:
        write_checkpoint(writer.checkpoints, epoch)
        writer.record_epoch(epoch, epoch_rows(epoch, 2, 60))


def write_sweep(
    root: Path,
    trials: Sequence[Mapping[str, Any]],
    *,
    name: str = "weights",
    seeds: Sequence[int] = (0,),
    epochs: int = 6,
    baseline: Mapping[str, Any] | None = None,
    noise: float = 0.0,
    **fields: Any,
) -> Path:
    """Write a sweep with one trial per mapping of searched overrides; every seventh fails, every fifth stops early.

    With several seeds, the last seed of every fourth trial fails. `noise` is by how many points trials differ between
    their seeds beside what all differ by. `fields` are fields of the spec.
    """
    with SweepWriter.create(
        root,
        name,
        SweepSpec(trials=len(trials), repeats=len(seeds), **fields),
        objective="validation/top1/mean",
        mode="max",
        trials_planned=len(trials),
        provenance=PROVENANCE,
    ) as sweep:
        for place, searched in enumerate(trials):
            weights = {
                key.removeprefix("losses."): value for key, value in searched.items() if key.startswith("losses.")
            }
            tau = 0.1 + 1e-6 * place
            size = searched.get("cohort.size", 2)
            level = (
                60
                + 8 * math.tanh(weights.get("alpha", 0.1))
                - 2 * abs(math.log10(weights.get("beta", 0.1) + 1e-3) + 1)
                + size
            )
            for repeat, seed in enumerate(seeds):
                state: RunState = "finished"
                error, done = None, epochs
                if place % 7 == 6 or (place % 4 == 3 and seed == seeds[-1] != seeds[0]):
                    state, error, done = "failed", RuntimeError("out of memory <b>here</b>"), min(2, epochs)
                elif place % 5 == 4:
                    state, done = "stopped", epochs // 2
                write_run(
                    sweep.folder,
                    spec(size, max(1, epochs), seed, **({"tau": tau} | weights)),
                    level=level + seed + noise * ((7 * place + 3 * repeat) % 5 - 2),
                    state=state,
                    error=error,
                    epochs=done,
                    searched=searched,
                    run_id=f"{sweep.sweep_id}-{place:04d}-r{repeat}",  # as `trainables.trial_job` names it
                    sweep_id=sweep.sweep_id,
                    trial_id=str(place),
                )
        for repeat, seed in enumerate(seeds if baseline else ()):
            write_run(
                sweep.folder,
                spec(1, max(1, epochs), seed),
                level=60 + seed,
                epochs=epochs,
                searched=baseline,
                run_id=f"{sweep.sweep_id}-{BASELINE}-r{repeat}",
                sweep_id=sweep.sweep_id,
                trial_id=BASELINE,
            )
        sweep.finish("finished")
    return sweep.folder
