"""Tune's events as ours: their order, states and results, and callbacks that raise."""

import pickle
from types import SimpleNamespace

import pytest
from ray.tune.result import DONE

from mcl_ray.callbacks import SweepCallback, TrialEnd
from mcl_ray.errors import StoreError
from searches.tune.callback import StopOnStorageError, TrialEvents, TuneCallback, receiving
from tests.support.trial_events import info, result
from trainables.trial_job import EPOCH, FAILED, SCORE, TRIAL, UNWRITTEN

REPORT = {EPOCH: 1, SCORE: 60.0, "mean": 61.0, "std": 1.0, "n": 2, "parameters": 5}


class Log(SweepCallback):
    def __init__(self):
        self.events = []

    def on_trial_start(self, trial):
        self.events.append(("start", trial))

    def on_trial_result(self, trial, result):
        self.events.append(("result", result))

    def on_trial_end(self, trial, end):
        self.events.append(("end", end))

    def on_heartbeat(self):
        self.events.append(("heartbeat",))


class FullDisk(SweepCallback):
    def on_trial_result(self, trial, result):
        raise StoreError("no space left")


class Broken(FullDisk):
    must_succeed = True


def tune_trial(report=None):
    config = {"losses.alpha": 0.5, TRIAL: "0003"}
    return SimpleNamespace(trial_id="t", config=config, last_result=report)


def sent(*events, callbacks=(), epochs=3):
    """Our events for events of Tune's callback, which is pickled as Tune does it."""
    log, tune = Log(), pickle.loads(pickle.dumps(TuneCallback("digits-1")))
    with receiving("digits-1", TrialEvents([*callbacks, log], epochs=epochs, costs=["parameters"])):
        for event, *details in events:
            getattr(tune, event)(0, [], *details)
    return log.events


def test_what_was_just_reported_is_sent_and_not_the_report_before():
    stale = tune_trial({EPOCH: 0})  # as Tune has it while it calls its callbacks
    assert sent(("on_trial_start", stale), ("on_trial_result", stale, REPORT), ("on_step_end",)) == [
        ("start", info(3, **{"losses.alpha": 0.5})),
        ("result", result(60.0, mean=61.0, std=1.0, n=2, epoch=1, parameters=5.0)),
        ("heartbeat",),
    ]


@pytest.mark.parametrize(("epoch", "is_last"), [(1, True), (3, False)])
def test_a_report_after_which_the_scheduler_stops_is_the_last(epoch, is_last):
    ((_, found),) = sent(("on_trial_result", tune_trial(), REPORT | {EPOCH: epoch, DONE: True}))
    assert (found.epoch, found.is_last) == (epoch, is_last), "the last epoch of all is no early stop"


@pytest.mark.parametrize(("epoch", "state"), [(3, "finished"), (2, "stopped")])
def test_a_trial_that_completes_before_its_last_epoch_was_stopped(epoch, state):
    ((_, end),) = sent(("on_trial_complete", tune_trial(REPORT | {EPOCH: epoch})))
    assert (end.state, end.result.epoch, end.process_died) == (state, epoch, False)


def test_a_trial_that_reports_its_failure_has_no_result_and_one_end():
    report = {EPOCH: 0, FAILED: "NonFiniteLossError: …"}
    events = sent(("on_trial_result", tune_trial(), report), ("on_trial_complete", tune_trial(report)))
    assert events == [("end", TrialEnd(state="failed", error="NonFiniteLossError: …"))]


def test_a_trial_whose_process_died_failed():
    ((_, end),) = sent(("on_trial_error", tune_trial(REPORT)))
    assert (end.state, end.error, end.process_died, end.result.score) == ("failed", "its process died", True, 60.0)


def test_a_trial_that_could_not_be_recorded_ends_once_at_its_report_and_stops_the_sweep():
    report, stopper = {EPOCH: 0, UNWRITTEN: "full disk"}, StopOnStorageError()
    events = sent(("on_trial_result", tune_trial(), report), ("on_trial_complete", tune_trial(report)))
    assert events == [("end", TrialEnd(state="unrecorded", error="full disk"))]
    assert (stopper("t", REPORT), stopper.stop_all()) == (False, False)
    assert (stopper("t", report), stopper.stop_all()) == (False, True)


def test_a_callback_that_raises_is_logged_and_the_others_are_called(caplog):
    assert len(sent(("on_trial_result", tune_trial(), REPORT), callbacks=[FullDisk()])) == 1
    assert "no space left" in caplog.text
    with pytest.raises(StoreError):
        sent(("on_trial_result", tune_trial(), REPORT), callbacks=[Broken()])


def test_two_sweeps_in_one_process_receive_their_own_events():
    first, second = Log(), Log()
    with receiving("a", TrialEvents([first], epochs=1)), receiving("b", TrialEvents([second], epochs=1)):
        TuneCallback("b").on_step_end(0, [])
    with receiving("a", TrialEvents([first], epochs=1)):
        TuneCallback("a").on_step_end(0, [])
    assert (len(first.events), len(second.events)) == (1, 1)
