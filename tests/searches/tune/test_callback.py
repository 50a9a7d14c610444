from types import SimpleNamespace

from mcl_ray.errors import StoreError
from searches.tune.callback import TuneCallback, listening


def test_what_was_just_reported_is_told_and_a_listener_that_cannot_write_is_passed_over(caplog):
    heard = []

    def full_disk(event, trial, result):
        raise StoreError("no space left")

    def listen(event, trial, result):
        heard.append((event, result))

    trial = SimpleNamespace(trial_id="t", last_result={"epoch": 1})  # as Tune has it while it tells of the second
    with listening(full_disk, listen):
        TuneCallback().on_trial_result(0, [], trial, {"epoch": 2})
        TuneCallback().on_trial_complete(0, [], trial)
    assert heard == [("reported", {"epoch": 2}), ("completed", {"epoch": 1})]
    assert "no space left" in caplog.text


def test_something_is_done_at_each_step_though_nothing_happens_and_though_it_cannot_be_written(caplog):
    calls = []

    def full_disk():
        calls.append("called")
        raise StoreError("no space left")

    with listening(at_each_step=full_disk):
        TuneCallback().on_step_end(0, [])
        TuneCallback().on_step_end(1, [])
    TuneCallback().on_step_end(2, [])
    assert calls == ["called"] * 2
    assert "no space left" in caplog.text
