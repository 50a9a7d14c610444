"""A whole suite by the command: a real Ray, real rows, a real kill."""

import json
import re
from functools import partial
from statistics import fmean, stdev

import pytest

from mcl_ray.config.spec import RunSpec
from mcl_ray.errors import TrainingError
from mcl_ray.results.store import RunWriter, read_epochs, read_runs, read_sweeps, wait_for_orphans
from mcl_ray.training.backbone import find_backbone
from tests.support.pictures import write_folder

ROWS = (
    "rows=[resnet8_baseline,resnet8_x2]",
    "rows.resnet20_baseline={networks: resnet20, alpha: 0, beta: 0, gamma: 0, lam: 0}",
    "rows.resnet20_x2={networks: resnet20}",
)
FIELDS = (*ROWS, "epochs=2", "repeats=2", "batch.size=240", "per_class=24")


@pytest.fixture
def start_command(start_command, shared_ray):
    """All commands of this module run on one Ray."""
    return partial(start_command, ray=shared_ray)


def figures(folder):
    """Row → the best of the test figures of each of its seeds, by hand."""
    rows = {run["run_id"]: json.loads(run["searched"])["row"] for run in read_runs(folder).to_pylist()}
    peaks = {}
    for row in read_epochs(folder).to_pylist():
        if (row["split"], row["metric"], row["member"]) == ("test", "top1", "best"):
            peaks[row["run_id"]] = max(row["value"], peaks.get(row["run_id"], 0.0))
    found = {}
    for run_id, value in peaks.items():
        found.setdefault(rows[run_id], []).append(value)
    return found


def times_taken(folder):
    """Run → the seconds that each of its epochs took; an epoch that is trained again takes others."""
    found = {}
    for row in read_epochs(folder).to_pylist():
        if row["metric"] == "epoch_time_s":
            found.setdefault(row["run_id"], []).append(row["value"])
    return found


@pytest.mark.slow
def test_a_table_of_two_networks_is_killed_resumed_printed_and_has_nothing_left(start_command):
    running = start_command("table", "digits", *FIELDS)
    running.until("trial 1/4")
    running.close()
    wait_for_orphans(running.folder)
    trained = {run["run_id"] for run in read_runs(running.folder).to_pylist() if run["state"] == "finished"}
    before = times_taken(running.folder)
    assert trained

    code, output = start_command("table", "--resume", "latest").end()
    assert code == 0, output
    runs = {run["run_id"]: run for run in read_runs(running.folder).to_pylist()}
    assert {run["state"] for run in runs.values()} == {"finished"}
    after = times_taken(running.folder)
    assert all(after[run_id] == before[run_id] for run_id in trained), "what ended was not trained again"
    (sweep,) = read_sweeps(running.folder).to_pylist()
    assert (sweep["state"], sweep["trials_planned"], sweep["best_run_id"]) == ("finished", 4, None)

    found = figures(running.folder)
    assert {row: len(values) for row, values in found.items()} == dict.fromkeys(
        ("resnet8_baseline", "resnet8_x2", "resnet20_baseline", "resnet20_x2"), 2
    )
    assert "not as published, so compared with nothing: data.source=digits (published: cifar)" in output
    for network in ("resnet8", "resnet20"):
        cells = [f"{fmean(v):.2f} ± {stdev(v):.2f} (2)" for v in (found[f"{network}_baseline"], found[f"{network}_x2"])]
        assert re.search(rf"\b{network} +{re.escape(cells[0])} +{re.escape(cells[1])} +– +–", output), output

    code, output = start_command("table", "--resume", sweep["sweep_id"]).end()
    assert (code, output.split(":")[0]) == (0, "nothing left to do")


WITHOUT_LABELS = (
    *("networks=resnet8", "image_size=16", "batch.size=6", "queue.keys=12", "neighbours=3", "repeats=2", "epochs=1"),
    *("run.schedule.kind=cosine", "run.schedule.milestones=[]", "lincls.epochs=2", "lincls.schedule.kind=cosine"),
    *("lincls.schedule.milestones=[]", "lincls.lr=0.5"),
)


def sweep_named(results, name):
    (sweep,) = (row for row in read_sweeps(results).to_pylist() if row["name"] == name)
    return sweep, results / "sweeps" / sweep["sweep_id"]


def by_row_and_seed(folder):
    found = {}
    for run in read_runs(folder).to_pylist():
        spec = RunSpec.model_validate_json(run["spec"])
        found[json.loads(run["searched"])["row"], spec.seed] = (spec, folder / "runs" / run["run_id"])
    return found


@pytest.mark.slow
def test_rows_without_labels_are_followed_by_linear_classification_of_each_which_is_resumed_too(
    start_command, tmp_path
):
    data = ("--data", str(write_folder(tmp_path / "pictures")), "--readers", "0")
    running = start_command("table", "moco", *WITHOUT_LABELS, *data)
    running.until("sweep moco_lincls-")
    running.until(".*trials at once")  # none of which has started, so that all are left
    running.close()
    pretraining, first = sweep_named(tmp_path, "moco")
    _, second = sweep_named(tmp_path, "moco_lincls")
    wait_for_orphans(second)
    assert pretraining["state"] == "finished"

    _, folder = by_row_and_seed(first)["resnet18_x2", 1]
    (folder / "checkpoints").rename(folder / "away")
    code, output = start_command("table", "--resume", "latest", *data).end()
    assert (code, output.count("\n")) == (2, 1), output
    assert "linear classification requires a checkpoint of its pretraining run in" in output
    (folder / "away").rename(folder / "checkpoints")

    code, output = start_command("table", "--resume", pretraining["sweep_id"], *data).end()
    assert code == 0, output
    assert output.startswith("nothing left to do"), "of the networks"
    assert sweep_named(tmp_path, "moco_lincls")[0]["state"] == "finished"
    trained, classified = by_row_and_seed(first), by_row_and_seed(second)
    assert trained.keys() == classified.keys()
    assert len(trained) == 4
    for which, (spec, _) in classified.items():
        pretrained, folder = trained[which]
        assert (spec.pretraining, spec.linear.backbone) == (pretrained, find_backbone(folder).checksum)
    found = figures(second)
    cells = [f"{fmean(v):.2f} ± {stdev(v):.2f} (2)" for v in (found["resnet18_baseline"], found["resnet18_x2"])]
    assert re.search(rf"\bresnet8 +{re.escape(cells[0])} +{re.escape(cells[1])}", output), output

    code, output = start_command("table", "--resume", "latest", *data).end()
    assert (code, output.count("nothing left to do")) == (0, 1)

    _, folder = by_row_and_seed(second)["resnet18_x2", 0]
    RunWriter.amend(folder).finish("failed", TrainingError("its loss was not finite"))
    attempt = read_runs(folder).to_pylist()[0]["attempt"]
    code, output = start_command("retry", pretraining["sweep_id"], "--failed", *data).end()
    assert code == 0, output
    assert output.startswith("nothing left to do"), "of the networks"
    assert re.search(rf"trying 1 failed \w+ of {second.name} again", output), output
    (run,) = read_runs(folder).to_pylist()
    assert (run["state"], run["attempt"] > attempt) == ("finished", True)
    assert figures(second) == found
    code, output = start_command("retry", pretraining["sweep_id"], "--failed", *data).end()
    assert (code, output.count("\n")) == (2, 1), output
    assert f"only failed trials and seeds can be tried again, but {first.name} has none" in output
