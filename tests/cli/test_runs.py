"""The commands of recorded runs, on recorded ones."""

import io
import json
import re

import pytest
from rich.console import Console

from mcl_ray.cli import runs
from mcl_ray.errors import MclError, StoreError, UserError
from mcl_ray.reports.results_page import write_index
from mcl_ray.reports.runs import comparison_table
from mcl_ray.results.atomic_io import FolderLock
from mcl_ray.results.reader import read_runs
from mcl_ray.results.tags import TAGS_FILE, change_tags, read_tags
from tests.support.synthetic import spec, write_run, write_sweep


@pytest.fixture
def sweep(tmp_path):
    """A sweep of two trials in a results folder."""
    return write_sweep(tmp_path / "results", [{"losses.alpha": 0.1}, {"losses.alpha": 1.0}], epochs=3)


@pytest.fixture
def results(sweep):
    return sweep.parent.parent


@pytest.fixture
def run_ids(sweep):
    return read_runs(sweep)["run_id"].to_pylist()


def single(results, sweep, run_id):
    """Move a run out of its sweep, as one that was trained by itself."""
    (results / "runs").mkdir(exist_ok=True)
    return (sweep / "runs" / run_id).rename(results / "runs" / run_id)


def test_runs_are_listed_with_their_tags_and_found_by_them(results, sweep, run_ids, capsys):
    change_tags(sweep / "runs" / run_ids[0], add=["baseline", "v:2"])
    runs.list_runs(results)
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed[1:]] == run_ids
    assert listed[1].endswith("baseline v:2")
    assert "finished" in listed[1]
    assert "3/3" in listed[1]
    runs.list_runs(results, tag="baseline")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == run_ids[:1]
    runs.list_runs(results, state="failed")
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_comparison_has_the_fields_that_differ_and_the_accuracies(results, run_ids, capsys):
    runs.compare(*run_ids, results=results)
    rows = {line[:60].rstrip().split("  ")[0].strip(): line for line in capsys.readouterr().out.splitlines()}
    assert rows["losses.alpha"].split()[1:] == ["0.1", "1"]
    assert "losses.beta" not in rows
    assert any("top-1 (%)" in name for name in rows)
    with pytest.raises(UserError, match="two or more runs, but got 1"):
        runs.compare(run_ids[0], results=results)


def test_a_comparison_has_no_values_of_fields_that_have_no_effect(results, sweep, capsys):
    alone = write_run(results, spec(1, alpha=0.0, beta=0.7))
    pair = write_run(results, spec(2, beta=0.9))
    runs.compare(alone, pair, results=results)
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert (rows["cohort.size"], rows["losses.alpha"]) == (["1", "2"], ["0", "0.1"])
    assert (rows["losses.beta"], rows["losses.tau"]) == (["–", "0.9"], ["–", "0.1"])
    index = write_index(results).read_text()
    (known,) = re.findall(r'<script id="known-runs" type="application/json">(.*?)</script>', index)
    fields = {run: content["fields"] for run, content in json.loads(known).items()}
    assert ("losses.beta" in fields[alone], fields[pair]["losses.beta"]) == (False, "0.9")


def test_a_comparison_of_many_runs_is_whole_in_80_columns(results, sweep):
    folders = [results / "runs" / write_run(results, spec(2, seed=seed, beta=0.1234)) for seed in range(6)]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(comparison_table(folders))
    text = console.export_text()
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    for number, folder in enumerate(folders, start=1):
        assert re.search(rf"^{number} {folder.name}\s*$", text, re.MULTILINE)
    console.print(comparison_table(folders[:2]))
    assert re.search(rf"{folders[0].name} +{folders[1].name}", console.export_text()), "where they fit"


def test_tags_are_added_and_removed(results, sweep, run_ids, capsys):
    runs.tag(run_ids[0], "b", "a", results=results)
    runs.tag(run_ids[0], "c", remove=("b",), results=results)
    assert capsys.readouterr().out == "a b\na c\n"
    assert read_tags(sweep / "runs" / run_ids[0]) == ("a", "c")


@pytest.mark.parametrize(
    ("tags", "removed", "message"),
    [(("two words",), (), "'two words'"), (("",), (), "''"), (("x" * 65,), (), "1 to 64"), ((), ("z",), "but got z")],
)
def test_tags_that_cannot_be_changed(results, sweep, run_ids, tags, removed, message):
    change_tags(sweep / "runs" / run_ids[0], add=["a"])
    with pytest.raises(UserError, match=message):
        runs.tag(run_ids[0], *tags, remove=removed, results=results)
    assert read_tags(sweep / "runs" / run_ids[0]) == ("a",)


@pytest.mark.parametrize("content", ["[", json.dumps({"a": 1}), json.dumps([1])])
def test_a_damaged_file_of_tags_is_named(sweep, run_ids, content):
    folder = sweep / "runs" / run_ids[0]
    (folder / TAGS_FILE).write_text(content)
    with pytest.raises(StoreError, match=TAGS_FILE):
        read_tags(folder)


def test_runs_and_sweeps_are_deleted(results, sweep, run_ids, capsys):
    folder = single(results, sweep, run_ids[0])
    runs.delete(run_ids[0], sweep.name, yes=True, results=results)
    assert capsys.readouterr().out == f"deleted {folder}\ndeleted {sweep}\n"
    assert not folder.exists()
    assert not sweep.exists()


def test_a_run_that_is_named_twice_is_deleted_once(results, sweep, capsys):
    runs.delete(sweep.name, str(sweep), f"{sweep}/", yes=True, results=results)
    assert capsys.readouterr().out == f"deleted {sweep}\n"


@pytest.mark.parametrize("name", ["{run}", "nothing", "{folder}/nothing"])
def test_only_whole_sweeps_and_runs_outside_of_them_are_deleted(results, sweep, run_ids, name):
    named = name.format(run=run_ids[0], folder=sweep)
    with pytest.raises(MclError, match="deleted with its sweep|but got"):
        runs.delete(sweep.name, named, yes=True, results=results)
    assert read_runs(sweep).num_rows == 2


def test_nothing_is_deleted_without_a_confirmation(results, sweep, monkeypatch):
    with pytest.raises(UserError, match="--yes"):
        runs.delete(sweep.name, results=results)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: "")
    with pytest.raises(UserError, match="nothing was deleted"):
        runs.delete(sweep.name, results=results)
    assert read_runs(sweep).num_rows == 2


def test_what_a_process_writes_is_not_deleted(results, sweep, run_ids):
    with FolderLock(sweep / "runs" / run_ids[1]), pytest.raises(StoreError, match="another process writes"):
        runs.delete(sweep.name, yes=True, results=results)
    assert read_runs(sweep).num_rows == 2


def test_a_store_is_refused(run_ids):
    with pytest.raises(StoreError, match="is a store"):
        runs.delete(f"s3://bucket/runs/{run_ids}", yes=True)
