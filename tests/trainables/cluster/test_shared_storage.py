"""What every node must see, on a cluster with a node that does not: its folder is another file system."""

import pytest

from mcl_ray.results.store import read_runs
from tests.support.commands import snapshot
from tests.support.data import archive_in
from tests.support.ray_nodes import RayNodes
from tests.support.running_command import RunningCommand

TINY = ("networks=resnet8", "batch.size=6", "epochs=1", "checksum=off", "--workers", "2")


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """A cluster of two nodes, and a folder that the second sees as an empty one."""
    folder = tmp_path_factory.mktemp("apart")
    archive_in(folder)
    with RayNodes(1, tmp_path_factory.mktemp("nodes")) as nodes, nodes.one_that_does_not_see(folder):
        yield nodes, folder


def trained(nodes, results, data):
    words = ("cifar", *TINY, "--data", str(data), "--address", nodes.address)
    running = RunningCommand(results, *words, command="train", variables=nodes.variables)
    try:
        return running.end()
    finally:
        running.close()


@pytest.mark.slow
def test_results_that_a_node_does_not_see(apart, tmp_path):
    nodes, folder = apart
    before = snapshot(folder)
    code, output = trained(nodes, folder / "results", archive_in(tmp_path))
    assert code == 2, output
    assert "error: every node must see and may write the results, but node " in output
    assert f"cannot: it does not see {folder / 'results'}" in output
    after = snapshot(folder)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) <= {"results"}, "nothing is started_run"


@pytest.mark.slow
def test_data_that_a_node_does_not_see_and_what_all_see(apart, tmp_path):
    nodes, folder = apart
    hidden = folder / "images.tar.gz"
    code, output = trained(nodes, tmp_path / "results", hidden)
    assert code == 2, output
    size = hidden.stat().st_size
    assert f"at {hidden}, node " in output
    assert f" has nothing and this one a file of {size:,} bytes" in output
    assert not (tmp_path / "results" / "runs").exists()

    code, output = trained(nodes, tmp_path / "results", archive_in(tmp_path))
    assert code == 0, output
    (run,) = read_runs(tmp_path / "results").to_pylist()
    assert run["state"] == "finished"
    assert run["hardware"].startswith("2 workers, each on "), "also on the node that does not see all"
