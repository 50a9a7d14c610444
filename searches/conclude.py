"""The end of a search: the best configuration's scores on the test split, its spec file, and the report."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from mcl_ray.analysis.conclusion import SweepConclusion
from mcl_ray.analysis.ranking import ranking
from mcl_ray.analysis.sweep_ranking import rank_sweep
from mcl_ray.config.environment import Environment
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.dataset import Dataset
from mcl_ray.errors import CheckpointError, TrainingError
from mcl_ray.reports.build import write_report
from mcl_ray.reports.improvement import figure_text, improvement_line
from mcl_ray.results.atomic_io import subfolders
from mcl_ray.results.queries import Objective, for_ranking
from mcl_ray.results.reader import BEST_FILE
from mcl_ray.results.remote.pull import display_path, fetch, push, remove
from mcl_ray.results.store import EpochRow, RunWriter, SweepWriter, read_epochs, read_runs, read_unreadable
from searches.importance import importances
from searches.spec.experiment import Experiment
from searches.spec.sweep import SweepSpec

_log = logging.getLogger(__name__)


def rank(experiment: Experiment, folder: Path) -> SweepConclusion:
    """Return the ranking of a sweep's configurations, and the images that were skipped in any run."""
    fetch(folder)
    scoring, objective = experiment.scoring, experiment.objective
    epochs = read_epochs(folder, lambda rows: for_ranking(rows, Objective.parse(objective)))
    rows = ranking(read_runs(folder), epochs, objective, "max", scoring.score, scoring.repeats)
    names = {name for run in subfolders(folder / "runs") for name in read_unreadable(run)}
    return SweepConclusion(folder=folder, objective=objective, scoring=scoring, ranking=rows, unreadable=sorted(names))


def conclude_search(
    sweep: SweepSpec, ranked: SweepConclusion, dataset: Dataset, environment: Environment, writer: SweepWriter
) -> SweepConclusion:
    """Score the best configuration on the test split, and write best.yaml and the report.

    Raises:
        TrainingError: no trial has a score.
    """
    best = ranked.best
    if best is None:
        reasons = "; ".join(ranked.reasons)
        raise TrainingError(f"no trial of {display_path(writer.folder)} has a score for {sweep.objective}: {reasons}")
    scores = _test_scores([writer.folder / "runs" / run_id for run_id in best.run_ids], dataset, environment)
    found = rank_sweep(writer.folder).improvement
    comment = f"best of {writer.sweep_id}, {sweep.objective}: {figure_text(best, Objective.parse(sweep.objective))}"
    if found is not None:
        comment += f"\n{improvement_line(found, sweep.objective)}"
    writer.record_best(best.run_ids[0], sweep.best_run(dict(best.searched)), comment=comment)
    _trim_checkpoints(sweep, ranked, writer.folder)
    concluded = dataclasses.replace(ranked, improvement=found, test_scores=scores, best_spec=writer.folder / BEST_FILE)
    return finish(concluded, writer)


def _trim_checkpoints(sweep: SweepSpec, ranked: SweepConclusion, folder: Path) -> None:
    """Delete the checkpoints of all but the best configurations; until now those to be confirmed kept theirs."""
    if sweep.keep_checkpoints is None:
        return
    kept = {row.trial_id for row in ranked.ranking[: sweep.keep_checkpoints] if row.place is not None}
    runs = read_runs(folder).select(["run_id", "trial_id"]).to_pylist()
    remove(folder / "runs" / run["run_id"] / "checkpoints" for run in runs if run["trial_id"] not in kept)


def finish(conclusion: SweepConclusion, writer: SweepWriter) -> SweepConclusion:
    """Record the sweep as finished, then write its report, which shows that state."""
    writer.finish("finished")
    files = write_report(writer.folder, importances)
    push(files)
    return dataclasses.replace(conclusion, files=files)


def _test_scores(runs: Sequence[Path], dataset: Dataset, environment: Environment) -> list[list[EpochRow]]:
    """Return the test scores of runs, without those whose last checkpoint is damaged or missing, with a warning."""
    scores = []
    for run in runs:
        try:
            scores.append(score_on_test(run, dataset, environment))
        except CheckpointError as error:
            _log.warning("%s is not scored on the test split: %s", run.name, error)
    return scores


def score_on_test(folder: Path, dataset: Dataset, environment: Environment) -> list[EpochRow]:
    """Score a run's last checkpoint on the test split, and add the scores to its last epoch.

    Raises:
        CheckpointError: it is damaged or missing; the figures of the run stay as they are.
    """
    from mcl_ray.training.recorded_run import score_test_split

    fetch(folder, checkpoints=True)
    (row,) = read_runs(folder).to_pylist()
    spec = RunSpec.model_validate(json.loads(row["spec"]))
    epoch, scores = score_test_split(spec, dataset, environment, folder / "checkpoints", row["epochs_done"])
    known = [
        EpochRow(r["member"], r["split"], r["metric"], r["value"])
        for r in read_epochs(folder).to_pylist()
        if r["epoch"] == epoch and r["split"] != "test"
    ]
    with RunWriter.amend(folder) as writer:
        writer.record_epoch(epoch, known + scores)
        writer.finish(row["state"])
    return scores
