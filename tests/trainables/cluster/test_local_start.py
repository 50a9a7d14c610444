"""The start of a local Ray in a thread: what interrupts it waits for its end, and its processes outlive threads."""

import os
import signal
import threading

import pytest
import ray

from mcl_ray.config.execution import ExecutionOptions
from tests.support.commands import HANGS_AFTER_S
from trainables.cluster.connect import connect, do_nothing
from trainables.cluster.local_start import LocalStart
from trainables.cluster.reaper import Reaper


def test_an_interruption_may_end_when_the_start_has_ended(monkeypatch):
    """Else Ray would be shut down while it is half connected."""
    is_handled = threading.Event()

    def init(**_):
        os.kill(os.getpid(), signal.SIGINT)
        assert is_handled.wait(HANGS_AFTER_S)
        return "context"

    def interrupt(*_):
        is_handled.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(ray, "init", init)
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with Reaper() as reaper, LocalStart({}, reaper) as start:
            with pytest.raises(KeyboardInterrupt):
                start.run(do_nothing)
            assert start.has_ended
    finally:
        signal.signal(signal.SIGINT, before)


def test_what_interrupts_the_work_beside_the_start_may_end_when_that_has_ended(monkeypatch):
    may_end, has_begun = threading.Event(), threading.Event()

    def init(**_):
        has_begun.set()
        assert may_end.wait(HANGS_AFTER_S)

    def work():
        assert has_begun.wait(HANGS_AFTER_S), "the start is not beside this work"
        threading.Timer(0.1, may_end.set).start()
        raise KeyboardInterrupt

    monkeypatch.setattr(ray, "init", init)
    with Reaper() as reaper, LocalStart({}, reaper) as start:
        with pytest.raises(KeyboardInterrupt):
            start.run(work)
        assert start.has_ended


def test_an_interruption_before_the_start_may_end_at_once(monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupt)
    with Reaper() as reaper, pytest.raises(KeyboardInterrupt):
        LocalStart({}, reaper).run(do_nothing)


@pytest.mark.slow
def test_a_ray_outlives_the_thread_that_has_connected_first():
    is_connected, is_used = threading.Event(), threading.Event()
    options = ExecutionOptions(no_dashboard=True)

    def connect_first():
        with connect(options):
            is_connected.set()
            assert is_used.wait(HANGS_AFTER_S)

    first = threading.Thread(target=connect_first)
    first.start()
    assert is_connected.wait(HANGS_AFTER_S)
    with connect(options):
        is_used.set()
        first.join()
        assert ray.get(ray.remote(lambda: "a worker ran").remote()) == "a worker ran"
