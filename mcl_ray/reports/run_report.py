"""The report of one run: accuracies, learning curves and spec."""

from __future__ import annotations

from pathlib import Path

from mcl_ray.analysis.ranking import MemberScore, summary
from mcl_ray.reports import interactive, plots
from mcl_ray.reports.labels import MEMBER_LABELS, NO_VALUE
from mcl_ray.reports.page import Section
from mcl_ray.reports.report import Part, Report, spec_part
from mcl_ray.reports.terminal import describe_run
from mcl_ray.results.reader import read_epochs, read_runs

NOTE = (
    "One run (n=1). Accuracies are those of the last epoch that was scored. best_peer_best_epoch is the best peer's "
    "test accuracy at its best test epoch, the figure of the published tables."
)


def run_report(folder: Path) -> Report:
    """Return the report of the run in a folder.

    Raises:
        StoreError: the folder holds no run, or a damaged one.
    """
    epochs = read_epochs(folder)
    found = summary(read_runs(folder), epochs)
    run, run_id = found.run, found.run["run_id"]
    facts = {"recipe": run["recipe"], "state": run["state"], "seed": str(run["seed"])}
    facts |= {"epochs": f"{run['epochs_done']} of {run['epochs_planned']}", "attempts": str(run["attempt"])}
    cells = [score_cells(score) for score in found.scores]
    parts = [Part(section=Section(title="Accuracy at the last epoch", note=NOTE, headers=found.headers, cells=cells))]
    if epochs.num_rows:
        curves = Section(title="Learning curves", figures=[interactive.learning_curves(epochs, [run_id])])
        parts.append(Part(section=curves, figures={"learning_curves": plots.learning_curves(epochs, [run_id])}))
    parts.append(spec_part("Spec", run["spec"]))
    return Report(title=f"Run {run_id}", facts=facts | describe_run(found), parts=parts)


def score_cells(score: MemberScore) -> list[str]:
    """Return the accuracies of a member as the cells of `RunSummary.headers`."""
    top5 = NO_VALUE if score.top5 is None else f"{score.top5:.2f}"
    return [MEMBER_LABELS.get(score.member, score.member), score.split, str(score.epoch), f"{score.top1:.2f}", top5]
