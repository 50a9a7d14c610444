"""A whole suite through the front door: a real Ray, real rows, a real kill."""

import json
import re
from statistics import fmean, stdev

import pytest

from mcl_ray.results.store import read_epochs, read_runs, read_sweeps, wait_for_orphans
from tests.followed import Door

ROWS = (
    "rows=[resnet8_baseline,resnet8_x2]",
    "rows.resnet20_baseline={networks: resnet20, alpha: 0, beta: 0, gamma: 0, lam: 0}",
    "rows.resnet20_x2={networks: resnet20}",
)
FIELDS = (*ROWS, "epochs=2", "repeats=2", "batch.size=240", "per_class=24")


@pytest.fixture
def open_door(tmp_path):
    doors = []

    def open_one(*arguments, door="sweep"):
        doors.append(Door(tmp_path, *arguments, door=door))
        return doors[-1]

    yield open_one
    for door in doors:
        door.close()


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


@pytest.mark.slow
def test_a_table_of_two_networks_is_killed_goes_on_is_printed_and_has_nothing_left(open_door):
    door = open_door("table", "digits", *FIELDS)
    door.until("trial 1/4")
    door.close()
    wait_for_orphans(door.folder)
    before = {run["run_id"]: run["attempt"] for run in read_runs(door.folder).to_pylist() if run["state"] == "finished"}
    assert before

    code, output = open_door("table", "--resume", "latest").end()
    assert code == 0, output
    runs = {run["run_id"]: run for run in read_runs(door.folder).to_pylist()}
    assert {run["state"] for run in runs.values()} == {"finished"}
    assert {run_id: runs[run_id]["attempt"] for run_id in before} == before, "what ended was not trained again"
    (sweep,) = read_sweeps(door.folder).to_pylist()
    assert (sweep["state"], sweep["trials_planned"], sweep["best_run_id"]) == ("finished", 4, None)

    found = figures(door.folder)
    assert {row: len(values) for row, values in found.items()} == dict.fromkeys(
        ("resnet8_baseline", "resnet8_x2", "resnet20_baseline", "resnet20_x2"), 2
    )
    assert "not as published, so compared with nothing: data.source=digits (published: cifar)" in output
    for network in ("resnet8", "resnet20"):
        cells = [f"{fmean(v):.2f} ± {stdev(v):.2f} (2)" for v in (found[f"{network}_baseline"], found[f"{network}_x2"])]
        assert re.search(rf"\b{network} +{re.escape(cells[0])} +{re.escape(cells[1])} +– +–", output), output

    code, output = open_door("table", "--resume", sweep["sweep_id"]).end()
    assert (code, output.split(":")[0]) == (0, "nothing left to do")
