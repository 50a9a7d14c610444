"""Messages about a group that waits for resources: one for each reason."""

import pytest

from trainables.pending_workers import REPORT_AFTER_S, _Poller
from trainables.torch_trainer import Group

ONE, TWO = ({"Resources": {"CPU": float(cores)}} for cores in (1, 2))


@pytest.fixture
def messages():
    return []


@pytest.fixture
def update(messages, monkeypatch):
    group = Group(fewest=2, most=2, bundle={"CPU": 1.0, "GPU": 0.0})
    poller = _Poller(group, messages.append)

    def update(nodes, now):
        """Every message sent by then."""
        monkeypatch.setattr("trainables.cluster.connect.alive_nodes", lambda: nodes)
        poller._update(2, now)
        return messages

    return update


def test_another_reason_is_reported_and_the_same_is_not_reported_twice(update):
    late = 1.0 + REPORT_AFTER_S
    assert update([ONE, TWO], 1.0) == []
    (others,) = update([ONE, TWO], late)
    assert others.endswith("the nodes have 2 CPU cores and 0 GPUs; 1 CPU cores and 0 GPUs: others use them")
    assert update([TWO, ONE], late + 2) == [others]
    _, fewer = update([ONE], late + 4)
    assert fewer.startswith("waiting for room for 2 workers: each needs 1 CPU cores and 0 GPUs, and the nodes have ")
    assert fewer.endswith("have 1 CPU cores and 0 GPUs: 1 fit")
