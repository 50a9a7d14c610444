"""The modules of docs/plugins.md go through training, a sweep on Ray, resuming and export as the page says."""

import json
import re
from functools import partial
from pathlib import Path

import pytest
import torch

from mcl_ray import Run
from mcl_ray.results.plugin_info import PLUGINS_FILE, read_plugins
from mcl_ray.results.store import read_runs
from tests.support.commands import TRAINING_IMPORTS, run_command, run_forked
from tests.support.forked import ON_RAY, TRAINING
from tests.support.running_command import ALONE

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "plugins.md").read_text()
MODULES = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE, re.DOTALL))
PARTS = ("plugins=[my_networks,my_data,my_method]", "networks=two_layers", "source=noise", "method=smoothed")
NAMES = ["my_networks", "my_data", "my_method"]
SMALL = ("batch.size=16", "per_class=4", "epochs=1")


@pytest.fixture
def folder(tmp_path):
    """A folder with the page's modules."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def test_the_page_has_a_module_for_every_kind():
    decorators = {name for text in MODULES.values() for name in re.findall(r"@register\.(\w+)", text)}
    assert decorators == set(re.findall(r"\| `register\.(\w+)` \|", PAGE)) != set()


@pytest.mark.slow
def test_a_run_with_parts_of_ones_own_is_trained_resumed_and_exported(folder):
    words = ("digits", *PARTS, *SMALL, "cohort.size=3")
    done = run_forked(folder, "mcl", "train", *words, modules=TRAINING)
    assert done.code == 0, done.stderr
    (path,) = (folder / "results" / "runs").iterdir()
    ((attempt, records),) = read_plugins(path).items()
    assert (attempt, [record.module for record in records]) == (1, NAMES)
    assert all(record.sha256 and record.distribution is None for record in records)

    more = run_forked(folder, "mcl", "train", *words, "--resume", modules=TRAINING)
    assert (more.code, "nothing left to do" in more.stdout) == (0, True), more.stderr
    exported = run_forked(folder, "mcl", "export", path.name, "--peer", "0", "--out", "exported", modules=TRAINING)
    assert exported.code == 0, exported.stderr
    program = torch.export.load(folder / "exported" / "program.pt2").module()
    assert program(torch.zeros(2, 3, 8, 8)).shape == (2, 4)

    elsewhere = Run(path)  # in this process, which has not imported the plugins
    assert elsewhere.spec.cohort.networks == ("two_layers",)
    assert elsewhere.metrics["test/top1/mean"] >= 0
    assert elsewhere.plugins == records
    assert json.loads((path / PLUGINS_FILE).read_text()).keys() == {"1"}


@pytest.mark.slow
def test_the_recipes_of_a_plugin_are_trained_by_their_names(folder):
    words = ("short_digits", "plugins=[my_recipes,my_loss]", "epochs=1", "losses.extra.agreement=0.5")
    done = run_forked(folder, "mcl", "train", *words, modules=TRAINING)
    assert done.code == 0, done.stderr
    (path,) = (folder / "results" / "runs").glob("short_digits-*")
    assert Run(path).metrics["train/agreement/cohort"] > 0


def test_a_plugin_that_is_missing_is_one_line_and_exit_code_2(tmp_path):
    done = run_command(tmp_path, "mcl", "train", "digits", "plugins=my_networks", "networks=two_layers")
    assert (done.code, done.stdout) == (2, "")
    rule = "error: a plugin must be a module that Python can import, but my_networks raises ModuleNotFoundError: "
    assert done.stderr == f"{rule}No module named 'my_networks'\n"
    assert not done.modules & TRAINING_IMPORTS
    assert not list(tmp_path.iterdir())


@pytest.fixture
def on_ray(shared_ray, monkeypatch):
    """Run a search of two trials from a folder, on the Ray that tests share."""
    for name, value in shared_ray.variables.items():
        monkeypatch.setenv(name, value)
    space = "space={losses.tau: {kind: float, low: 0.1, high: 0.2}}"
    held_out = ("validation_fraction=0.25", "trials=2", "scheduler.kind=none")
    own = ("networks=two_layers", "source=noise", "losses.extra.agreement=0.5", "sampler.kind=multivariate_tpe")
    parts = ("plugins=[my_networks,my_data,my_loss,my_sampler,my_searches]", *own)
    words = ("short_digits", space, *held_out, *parts, *SMALL, *ALONE, "--address", shared_ray.address)
    return lambda run, folder: run(folder, "sweep", *words)


@pytest.mark.slow
def test_a_sweep_on_ray_imports_the_plugins_in_every_worker(folder, on_ray):
    forked = partial(run_forked, modules=ON_RAY)
    done = on_ray(forked, folder)
    assert done.code == 0, done.stdout + done.stderr
    runs = read_runs(folder / "results").to_pylist()
    assert [run["state"] for run in runs] == ["finished", "finished"]
    assert len(list(folder.glob(f"results/sweeps/*/runs/*/{PLUGINS_FILE}"))) == 2
    resumed = forked(folder, "sweep", "--resume", "latest")
    assert (resumed.code, "nothing left to do" in resumed.stdout) == (0, True), resumed.stderr


@pytest.mark.slow
def test_a_node_without_a_plugin_ends_a_sweep_before_anything_is_written(folder, on_ray, tmp_path_factory, monkeypatch):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{ROOT}")  # of the driver: Ray's workers were started before
    done = on_ray(run_command, elsewhere)
    assert done.code == 2, done.stdout + done.stderr
    assert "error: every node must have the plugins, but node " in done.stderr
    assert "No module named 'my_networks'" in done.stderr
    assert not list(elsewhere.glob("results/sweeps/*"))
