"""A run as it is read from the results store."""

import shutil
from html.parser import HTMLParser

import pytest

import mcl_ray
from mcl_ray import CohortTrainer, Run
from mcl_ray.analysis.ranking import RunSummary
from mcl_ray.errors import SpecError, StoreError
from mcl_ray.reports.progress import NotebookRunCallback
from tests.support.once import once


@pytest.fixture
def results(tmp_path_factory):
    def train(folder):
        options = {"results": folder / "results", "threads": 1}
        return CohortTrainer("digits", epochs=2, validation_fraction=0.5, **options).fit().run_id

    folder, _ = once(tmp_path_factory, "sdk-run", train)
    return folder / "results"


@pytest.fixture
def run(results):
    (folder,) = (results / "runs").iterdir()
    return Run(folder)


def test_metrics_are_the_figures_of_the_last_epoch(run):
    last = {
        f"{row['split']}/{row['metric']}/{row['member']}": row["value"]
        for row in run.history.to_pylist()
        if row["epoch"] == 2
    }
    assert run.metrics == last
    assert {"train/loss/cohort", "validation/top1/peer0", "test/top1/ensemble"} <= last.keys()
    peers = [last["test/top1/peer0"], last["test/top1/peer1"]]
    assert run.best_peer() == peers.index(max(peers))


def test_a_run_is_opened_by_its_folder_or_its_id(run, results, monkeypatch):
    assert Run.open(run.run_id, results=results).folder == run.folder
    assert Run.open(str(run.folder)).spec == run.spec
    assert mcl_ray.load(run.folder).run_id == mcl_ray.load(run.run_id, results=results).run_id == run.run_id
    monkeypatch.chdir(results.parent)
    assert Run.open(run.run_id).state == "finished"
    with pytest.raises(StoreError, match="but got nothing-1"):
        mcl_ray.load("nothing-1")


class Cells(HTMLParser):
    """The tags and texts of a page."""

    def __init__(self, content):
        super().__init__()
        self.tags, self.text = [], []
        self.feed(content)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text.append(data)


def test_a_notebook_shows_a_run_as_a_table(run):
    cells = Cells(run._repr_html_())
    assert f"{run.run_id}: finished, 2 of 2 epochs" in cells.text
    assert f"{run.metrics['test/top1/peer1']:.2f}" in cells.text
    assert cells.tags.count("table") == 1
    assert repr(run) == f"Run({str(run.folder)!r})"


def test_html_is_escaped(run, monkeypatch):
    hostile = run.summary().run | {"run_id": "<script>alert(1)</script>", "host": "<img src=x>"}
    summary = RunSummary(run=hostile, scores=(), best_peer_best_epoch=None, published=None)
    monkeypatch.setattr(Run, "summary", lambda _: summary)
    cells = Cells(run._repr_html_())
    assert not {"script", "img"} & set(cells.tags)
    assert "<script>alert(1)</script>: finished, 2 of 2 epochs" in cells.text


@pytest.mark.slow
def test_a_report_and_an_export_are_written_into_the_folder(run, tmp_path):
    run = Run(shutil.copytree(run.folder, tmp_path / "runs" / run.run_id))
    files = run.report()
    assert {file.suffix for file in files} == {".png", ".html"}
    assert all(file.is_relative_to(run.folder) for file in files)
    files = run.export(peer=1)
    assert {file.parent.name for file in files} == {"peer1"}
    assert (run.folder / "export" / "peer1" / "program.pt2") in files
    with pytest.raises(StoreError, match="an export replaces nothing"):
        run.export(peer=1)
    with pytest.raises(SpecError, match="a number from 0 to 1, but got '7'"):
        run.export(peer=7)


def test_a_notebook_shows_one_bar_that_is_updated_and_closed(tmp_path, capsys):
    callback = NotebookRunCallback()
    callback.on_status("waiting for workers")
    run = CohortTrainer("digits", epochs=1, results=tmp_path, threads=1, callbacks=[callback]).fit()
    shown = capsys.readouterr().err.split("\r")
    assert shown[1].startswith("waiting for workers:   0%|")
    assert shown[-1].startswith(f"{run.run_id}: epoch 1/1  loss ")
    assert ": 100%|" in shown[-1]
    assert shown[-1].endswith("\n"), "the bar was closed"
