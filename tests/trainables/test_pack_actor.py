"""The process of a pack answers its trials, whatever happens to one of them."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from mcl_ray.errors import StoreError
from tests.support.commands import HANGS_AFTER_S
from trainables import pack_training
from trainables.pack_actor import PackActor
from trainables.pack_training import NO_MORE
from trainables.trial_job import TRIAL, info_of

FIRST, SECOND = {TRIAL: "0000"}, {TRIAL: "0001"}


class Job:
    """A job whose trials only count epochs."""

    def on_this_node(self) -> "Job":
        return self


def epochs(config: dict[str, Any], *_: object) -> Iterator[dict[str, int] | None]:
    """Two epochs; the record of the first trial cannot be closed."""
    try:
        yield None
        yield {"epoch": 1}
        yield {"epoch": 2}
    finally:
        if config == FIRST:
            raise StoreError("the disk is full")


def asked(pack: PackActor, config: dict[str, Any]) -> Future[Any]:
    """Ask for the next report, in a thread that does not outlive a test that fails."""
    found: Future[Any] = Future()
    threading.Thread(target=lambda: found.set_result(pack.next(config)), daemon=True).start()
    return found


def test_a_trial_that_cannot_be_closed_leaves_the_others_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_training, "iter_reports", epochs)
    pack = PackActor(Job(), size=2)  # type: ignore[arg-type]
    names = [info_of(config).name for config in (FIRST, SECOND)]
    assert [pack.accept(name) for name in (*names, "more")] == [True, True, False]
    reports = [asked(pack, config) for config in (FIRST, SECOND)]
    assert [report.result(HANGS_AFTER_S) for report in reports] == [{"epoch": 1}] * 2
    pack.leave(names[0])
    assert not pack.has(names[0])
    assert asked(pack, SECOND).result(HANGS_AFTER_S) == {"epoch": 2}
    assert asked(pack, SECOND).result(HANGS_AFTER_S) == NO_MORE


def test_the_process_of_a_trial_in_a_pack_imports_no_torch() -> None:
    """It imports its own class and, for the handles of the packs, that of the actor."""
    code = "import trainables.packed_trial, trainables.pack_actor, sys; print([*{'torch', 'sklearn'} & {*sys.modules}])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
