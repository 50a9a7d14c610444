"""The notebook of the documentation runs from start to finish, and shows and writes what its text says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
CELL_TIMEOUT_S = 1800


@pytest.fixture(scope="module")
def stored():
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    return notebook


@pytest.fixture(scope="module")
def executed(stored, tmp_path_factory):
    """The notebook with its outputs, and the folder in which it ran."""
    import copy

    from nbclient import NotebookClient

    folder = tmp_path_factory.mktemp("notebook")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    client = NotebookClient(
        copy.deepcopy(stored),
        timeout=CELL_TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    return client.execute(env=environment), folder


def outputs_of(notebook, source):
    """Outputs of the only cell whose source contains `source`, by MIME type; printed text as text/plain."""
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and source in cell.source]
    found = {}
    for output in cell.outputs:
        data = output.get("data", {"text/plain": output.get("text", "")})
        for kind, content in data.items():
            found.setdefault(kind, []).append(content)
    return found


def test_it_is_stored_without_outputs(stored):
    for cell in stored.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None


@pytest.mark.slow
def test_every_cell_runs(executed):
    notebook, _ = executed
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.execution_count is not None
            assert not [output for output in cell.outputs if output.output_type == "error"]


@pytest.mark.slow
def test_it_shows_a_run_a_ranking_and_figures(executed):
    notebook, _ = executed
    cell = outputs_of(notebook, "run = CohortTrainer")
    assert "<table" in "".join(cell["text/html"])
    assert cell["application/vnd.jupyter.widget-view+json"], "a live progress bar"
    ranking = "".join(outputs_of(notebook, "sweep = CohortTuner")["text/html"])
    assert "<table" in ranking
    for searched in ("alpha", "tau"):
        assert searched in ranking
    for plot in ("accuracy = history", "axes.scatter", "imshow"):
        assert outputs_of(notebook, plot)["image/png"]
    assert outputs_of(notebook, "trials_dataframe")["text/html"]
    assert outputs_of(notebook, "Sweep.open")["text/plain"] == ["True"]


@pytest.mark.slow
def test_it_exports_the_files_that_an_export_has(executed):
    notebook, folder = executed
    (program,) = folder.glob("results/sweeps/*/runs/*/export/*/program.pt2")
    files = {"model.safetensors", "program.pt2", "config.json", "README.md"}
    assert files == {path.name for path in program.parent.iterdir()}
    (listed,) = outputs_of(notebook, ".export(")["text/plain"]
    assert all(name in listed for name in files)
