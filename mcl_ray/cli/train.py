"""The command `python -m mcl_ray.train digits epochs=5`: trains one run, or several that build on each other.

Several workers share it, each with its shard of every batch: on Ray with `--workers 2`, and without Ray by
`torchrun --nproc-per-node 2 -m mcl_ray.train digits`. Runs that build on each other are one command, `moco+lincls`.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from mcl_ray import interruption
from mcl_ray.cli import app
from mcl_ray.cli.rank_output import report_rank_errors
from mcl_ray.config.execution import DEFAULT_EXECUTION
from mcl_ray.object_store import Uri
from mcl_ray.torchrun import read_torchrun_env

if TYPE_CHECKING:
    from mcl_ray.sdk.run import Run
    from mcl_ray.sdk.trainer import CohortTrainer


def train(
    name: str,
    /,
    *overrides: Annotated[str, Parameter(help=app.OVERRIDES_HELP)],
    execution: app.Options = DEFAULT_EXECUTION,
    source: Annotated[Uri | Path | None, Parameter(name="--from")] = None,
    download: bool = False,
    threads: int | None = None,
    resume: bool = False,
    dry_run: bool = False,
) -> None:
    """Train one cohort.

    Args:
        name: A recipe (`mcl recipes` lists them), or a spec file ending in .yaml; or moco+lincls, one after the other.
        source: What linear classification freezes: a run's folder or id, or a checkpoint, its own or one of MoCo's.
        download: Fetch the data set if it is missing.
        threads: CPU threads inside one operation, without Ray. If not given, one for small images and networks, whose
            operations two threads slow down, else torch's own choice.
        resume: Resume the newest run of this spec.
        dry_run: Print the resolved spec and what it would do, without doing it.
    """
    from mcl_ray.reports.progress import TerminalRunCallback
    from mcl_ray.sdk.trainer import CohortTrainer

    if execution.workers is None:
        interruption.unblock()
    rank = read_torchrun_env().rank
    trainer = CohortTrainer(
        name,
        overrides=overrides,
        source=source,
        callbacks=[TerminalRunCallback(app.stdout())],
        **{field.name: getattr(execution, field.name) for field in fields(execution)},
        download=download,
        threads=threads,
        resume=resume,
    )
    if not dry_run:
        with report_rank_errors(rank):
            run = trainer.fit()
        if run.pretraining is not None and rank == 0:
            _print_stages(run)
    elif rank == 0:
        _print_estimates(trainer, execution.device, threads)


def _print_estimates(trainer: CohortTrainer, device: str, threads: int | None) -> None:
    estimates = trainer.estimate()  # an error does not wait for torch, which is imported next
    from mcl_ray.reports.dry_run import run_dry_run
    from mcl_ray.training.timing import multiply_adds_per_second

    for stage in estimates:
        speed = multiply_adds_per_second(stage.spec, stage.estimate, device, threads)
        text = run_dry_run(stage.spec, stage.estimate, trainer.workers, speed)
        app.stdout().print(text, end="", soft_wrap=True)


def _print_stages(run: Run) -> None:
    """Print one table of runs that build on each other."""
    from mcl_ray.reports.terminal import stages_table

    runs = [run]
    while (before := runs[0].pretraining) is not None:
        runs.insert(0, before)
    app.stdout().print(stages_table([stage.summary() for stage in runs]))
