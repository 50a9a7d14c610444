"""The end of a sweep: which configuration is best, its one look at the test split, its spec file, and the report."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean, stdev

from rich.console import Console

from mcl_ray.analysis.ranking import Ranked, ranking
from mcl_ray.config.environment import Environment
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.dataset import Dataset
from mcl_ray.errors import TrainingError
from mcl_ray.reports.build import write_report
from mcl_ray.reports.terminal import front_table, ranking_table
from mcl_ray.results.atomic_io import subfolders
from mcl_ray.results.queries import ACCURACIES
from mcl_ray.results.reader import BEST_FILE
from mcl_ray.results.remote.pull import display_path, fetch, push
from mcl_ray.results.store import EpochRow, RunWriter, SweepWriter, read_epochs, read_runs, read_unreadable
from searches.importance import importances
from searches.spec.experiment import Experiment
from searches.spec.sweep import SweepSpec

NAMES_TOLD = 20
"""Of images that do not decode; all are in `unreadable.json` of each run."""


def conclude(
    sweep: SweepSpec, dataset: Dataset, environment: Environment, writer: SweepWriter, console: Console
) -> None:
    """Rank, score the best configuration on the test split, and write best.yaml and the report.

    Raises:
        TrainingError: no trial has a score.
    """
    fetch(writer.folder)
    rows = ranked(sweep, writer.folder)
    console.print(ranking_table(rows, sweep.objective, "max", sweep.scoring))
    tell_unreadable(writer.folder, console)
    if sweep.costs:
        console.print(front_table(rows, sweep.objective, "max", sweep.scoring))
    best = rows[0] if rows and rows[0].score is not None else None
    if best is None:
        reasons = {row.reason for row in rows if row.reason}
        raise TrainingError(
            f"no trial of {display_path(writer.folder)} has a score for {sweep.objective}: {'; '.join(sorted(reasons))}"
        )
    told = [score_on_test(writer.folder / "runs" / run_id, dataset, environment) for run_id in best.run_ids]
    writer.record_best(best.run_ids[0], sweep.best_run(dict(best.searched)))
    console.print(f"best: {', '.join(best.run_ids)}\ntest top-1, read once, for the best alone: {_test_figures(told)}")
    writer.finish("finished")  # so that the page says so
    files = write_report(writer.folder, importances)
    push(files)
    console.print(f"best spec: python -m mcl_ray.train {_relative_to_cwd(writer.folder / BEST_FILE)}", soft_wrap=True)
    console.print(f"results:   {found_at(writer.folder)} (Parquet)", soft_wrap=True)
    for file in files:
        console.print(f"report:    {found_at(file)}", soft_wrap=True)


def tell_unreadable(sweep_folder: Path, console: Console) -> None:
    """Say which images were skipped in any run, as trials themselves have nobody to say it to."""
    names = {name for run in subfolders(sweep_folder / "runs") for name in read_unreadable(run)}
    if names:
        shown_names = "; ".join([*sorted(names)[:NAMES_TOLD], *(["…"] if len(names) > NAMES_TOLD else [])])
        console.print(f"images skipped, as they do not decode: {len(names)}: {shown_names}", soft_wrap=True)


def score_on_test(folder: Path, dataset: Dataset, environment: Environment) -> list[EpochRow]:
    """Score a run's newest checkpoint on the test split and add the figures to its last epoch."""
    from mcl_ray.training.recorded_run import score_test_split

    fetch(folder, checkpoints=True)
    (row,) = read_runs(folder).to_pylist()
    spec = RunSpec.model_validate(json.loads(row["spec"]))
    epoch, scores = score_test_split(spec, dataset, environment, folder / "checkpoints")
    known = [
        EpochRow(r["member"], r["split"], r["metric"], r["value"])
        for r in read_epochs(folder).to_pylist()
        if r["epoch"] == epoch and r["split"] != "test"
    ]
    with RunWriter.amend(folder) as writer:
        writer.record_epoch(epoch, known + scores)
        writer.finish(row["state"])
    return scores


def _test_figures(told: list[list[EpochRow]]) -> str:
    """Each member's top-1, over seeds where there are several."""
    metric = next(metric for metric in ACCURACIES if metric in {row.metric for row in told[0]})
    members = [row.member for row in told[0] if row.metric == metric]
    figures = []
    for member in members:
        values = [row.value for rows in told for row in rows if (row.metric, row.member) == (metric, member)]
        spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
        figures.append(f"{member} {fmean(values):.2f}{spread} %")
    return "  ".join(figures) + (f"  (n = {len(told)})" if len(told) > 1 else "")


def ranked(sweep: Experiment, folder: Path) -> list[Ranked]:
    """The configurations of a sweep, best first."""
    scoring = sweep.scoring
    return ranking(read_runs(folder), read_epochs(folder), sweep.objective, "max", scoring.score, scoring.repeats)


def _relative_to_cwd(path: Path) -> Path:
    """As short as it can be said from the current folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def found_at(path: Path) -> str:
    """In the store if it is there, else as short as it can be said."""
    where = display_path(path)
    return str(_relative_to_cwd(path)) if where == str(path) else where
