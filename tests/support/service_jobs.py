"""Jobs of a service that no driver runs: their results are written by the real writers, as a driver would."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from api.database import event, job
from mcl_ray.jobs.claims import Attempts
from mcl_ray.reports.build import write_report
from mcl_ray.results.store import EpochRow, RunWriter, SweepWriter
from tests.support.synthetic import PROVENANCE, SweepSpec, epoch_rows, spec, write_sweep

if TYPE_CHECKING:
    from tests.support.application import App

MARKUP = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>"
OWN_POINT = {"losses.alpha": 0.1, "losses.beta": 0.1, "losses.gamma": 1.0, "losses.lam": 1.0, "cohort.size": 2}
BASELINE_POINT = {"losses.alpha": 0.0, "cohort.size": 1}
SHARES = {"losses.alpha": 0.62, "cohort.size": 0.27, "losses.beta": 0.11}


def trials(number: int) -> list[dict[str, Any]]:
    """Return configurations, the run's own values first."""
    alphas, betas = (0.1, 0.55, 0.02, 0.93, 0.31, 0.74, 0.18), (0.1, 0.4, 0.9, 0.02, 0.65)
    gammas, lams = (1.0, 0.4, 1.6), (1.0, 0.2, 1.8, 0.7)
    return [
        {
            "losses.alpha": alphas[at % 7],
            "losses.beta": betas[at % 5],
            "losses.gamma": gammas[at % 3],
            "losses.lam": lams[at % 4],
            "cohort.size": 2 + (at + at // 7) % 3,
        }
        for at in range(number)
    ]


def set_state(app: App, job_id: str, state: str, *, desired: str = "run", reason: str = "") -> None:
    """Move a job to a state, as the reconciler does."""
    with app.database.write_engine.begin() as connection:
        values = {"state": state, "desired": desired, "reason": reason, "rev": job.c.rev + 1}
        connection.execute(sa.update(job).where(job.c.id == job_id).values(values))
        row = {"job": job_id, "state": state, "attempt": 1, "reason": reason, "at": time.time()}
        connection.execute(sa.insert(event).values(row))


def results(app: App, job_id: str) -> Path:
    """Return the results folder of a job."""
    root = app.settings.results_root
    assert isinstance(root, Path)
    return root / "jobs" / job_id / "results"


def write_log(app: App, job_id: str, text: str) -> None:
    """Add to the log of a job's first attempt."""
    path = Attempts(app.settings.results_root).log_path(job_id, 1)
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text)


def submit(app: App, headers: dict[str, str], state: str = "running", **body: Any) -> str:
    """Submit a job, bring it into a state, and return its id."""
    answer = app.submit(headers, **body)
    assert answer.status_code == 202, answer.text
    job_id = str(answer.json()["id"])
    for passed in ("starting", "running", "succeeded", "failed", "cancelled"):
        if passed in ("starting", "running") or passed == state:
            set_state(app, job_id, passed)
        if passed == state:
            break
    return job_id


def finished_sweep(
    app: App,
    headers: dict[str, str],
    *,
    number: int = 16,
    seeds: Sequence[int] = (0, 1, 2),
    label: str = "weights",
    own_alpha: float = 0.1,
) -> str:
    """Submit a sweep that has succeeded, with its ranking, its report and its manifest.

    With another `own_alpha`, its run's own values are none of its configurations.
    """
    job_id = submit(app, headers, "succeeded", kind="sweep", name="digits", overrides={}, label=label)
    own = {"losses": {"alpha": own_alpha, "beta": 0.1, "gamma": 1.0, "lam": 1.0}, "cohort": {"size": 2}}
    root, more = results(app, job_id), {"run": own, "baseline": BASELINE_POINT, "noise": 0.3}
    folder = write_sweep(root, trials(number), name="digits", seeds=seeds, epochs=12, **more)
    write_report(folder, SHARES)
    files = {f"sweeps/{folder.name}/report/report.html": {"bytes": 1, "sha256": "0" * 64}}
    Attempts(app.settings.results_root).write(job_id, 1, "manifest", {"job": job_id, "attempt": 1, "files": files})
    write_log(app, job_id, "".join(f"2026-01-01T00:00:{at:02d}Z trial {at}: finished\n" for at in range(40)))
    return job_id


class RunningSweep:
    """A sweep that runs: one configuration has ended, another one gets its epochs by `add_epoch`."""

    def __init__(self, app: App, headers: dict[str, str], label: str = "live") -> None:
        self.job_id = submit(app, headers, kind="sweep", name="digits", overrides={}, label=label)
        root = results(app, self.job_id)
        self._sweep = SweepWriter.create(
            root, "digits", SweepSpec(trials=8), objective="validation/top1/mean", mode="max", trials_planned=8,
            provenance=PROVENANCE,
        )  # fmt: skip
        self._open: list[RunWriter] = []
        ended = self._run("0000", OWN_POINT)
        for epoch in range(1, 13):
            ended.record_epoch(epoch, epoch_rows(epoch, 2, 70.0))
        ended.finish("finished")
        self._live, self._epoch = self._run("0001", {**OWN_POINT, "cohort.size": 3, "losses.alpha": 0.5}), 0

    def _run(self, trial: str, searched: dict[str, Any]) -> RunWriter:
        run_id = f"{self._sweep.sweep_id}-{trial}-r0"
        writer = RunWriter.begin(
            self._sweep.folder, run_id, spec(searched["cohort.size"], 12, int(trial)), provenance=PROVENANCE,
            searched=searched, sweep_id=self._sweep.sweep_id, trial_id=trial,
        )  # fmt: skip
        self._open.append(writer)
        return writer

    def add_epoch(self) -> int:
        """Record the next epoch of the configuration that runs, and return its number."""
        self._epoch += 1
        self._live.record_epoch(self._epoch, epoch_rows(self._epoch, 3, 74.0))
        return self._epoch

    def close(self) -> None:
        """Release the folders."""
        for writer in (*self._open, self._sweep):
            writer.close()


def run_of_peers(app: App, headers: dict[str, str], *, num_peers: int = 4, epochs: int = 30) -> str:
    """Submit a run that has succeeded, with scores on the test images at its end."""
    job_id = submit(app, headers, "succeeded", label="four peers")
    with RunWriter.create(results(app, job_id), spec(num_peers, epochs), provenance=PROVENANCE) as writer:
        for epoch in range(1, epochs + 1):
            splits = ("validation", "test") if epoch == epochs else ("validation",)
            writer.record_epoch(epoch, epoch_rows(epoch, num_peers, 74.0, splits))
        writer.finish("finished")
    return job_id


def failed_run(app: App, headers: dict[str, str]) -> str:
    """Submit a run that has failed, with markup in its error, its reason and its log."""
    job_id = submit(app, headers, "running")
    set_state(app, job_id, "failed", reason=f"RuntimeError: {MARKUP}")
    with RunWriter.create(results(app, job_id), spec(), provenance=PROVENANCE) as writer:
        writer.record_epoch(1, [EpochRow(MARKUP, "validation", "top1", 50.0), *epoch_rows(1, 2, 60.0)])
        writer.finish("failed", RuntimeError(MARKUP))
    write_log(app, job_id, f"{json.dumps(MARKUP)}\n{MARKUP}\n")
    return job_id
