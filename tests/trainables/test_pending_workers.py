"""What is said of a group that waits for room: once for each reason."""

import io

import pytest
from rich.console import Console

from trainables.cluster.connect import connect
from trainables.pending_workers import SAID_AFTER_S, _Watch
from trainables.torch_trainer import Group

ONE, TWO = ({"Resources": {"CPU": float(cores)}} for cores in (1, 2))


@pytest.fixture
def watch():
    group = Group(fewest=2, most=2, bundle={"CPU": 1.0, "GPU": 0.0})
    return _Watch(group, Console(file=io.StringIO(), width=200))


def look(watch, monkeypatch, nodes, now):
    """What has been said by then, a line each."""
    monkeypatch.setattr(connect, "alive_nodes", lambda: nodes)
    watch._look(2, now)
    return watch._console.file.getvalue().splitlines()


def test_another_reason_is_said_and_the_same_is_not_said_twice(watch, monkeypatch):
    late = 1.0 + SAID_AFTER_S
    assert look(watch, monkeypatch, [ONE, TWO], 1.0) == []
    (others,) = look(watch, monkeypatch, [ONE, TWO], late)
    assert others.endswith("the nodes have 2 CPU cores and 0 GPUs; 1 CPU cores and 0 GPUs: others have them")
    assert look(watch, monkeypatch, [TWO, ONE], late + 2) == [others]
    _, fewer = look(watch, monkeypatch, [ONE], late + 4)
    assert fewer.startswith("waiting for room for 2 workers: each needs 1 CPU cores and 0 GPUs, and the nodes have ")
    assert fewer.endswith("have 1 CPU cores and 0 GPUs: 1 fit")
