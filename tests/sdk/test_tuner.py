"""`CohortTuner` and `Sweep` on a real Ray: events, results, threads, and nothing left behind in the process."""

import html
import importlib
import logging
import signal
import threading

import optuna
import pytest

from mcl_ray import CohortTuner, Sweep, SweepCallback
from mcl_ray.callbacks import TrialInfo
from mcl_ray.errors import SpecError, StoreError, UserError
from searches.spec import search_registry
from searches.spec.space import FloatRange
from tests.support.empty_environment import run_command

FIELDS = {"trials": 2, "epochs": 1, "keep_checkpoints": 1}
OVERRIDES = {"cohort.size": 1, "scheduler.kind": "none", "sampler.kind": "random"}
OVERRIDES |= {"baseline": {}, "confirm.configurations": 0}
SPACE = {"cohort.size": None, "tau": FloatRange(low=0.05, high=0.5)}
OPTIONS = {"no_dashboard": True, "device": "cpu"}


class Log(SweepCallback):
    """Notes every event but heartbeats, and what it is given."""

    def __init__(self):
        self.events, self.details, self.heartbeats = [], [], 0

    def on_heartbeat(self):
        self.heartbeats += 1


def _note(event):
    def note(self, *details):
        self.events.append((event, details[0].trial_id) if isinstance(details[0], TrialInfo) else event)
        self.details.append(details)

    return note


for _event in ("on_sweep_start", "on_trial_start", "on_trial_result", "on_trial_end", "on_sweep_end"):
    setattr(Log, _event, _note(_event))


class Broken(SweepCallback):
    def on_trial_result(self, trial, result):
        raise RuntimeError("a user's own mistake")


def process_state():
    importlib.import_module("searches.tune.tuner")  # and ray, whose import sets the level of its logger
    levels = {name: logging.getLogger(name).level for name in ("ray", "ray.tune", "ray.train", "optuna")}
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    return levels, handlers, optuna.logging.get_verbosity()


def tuner(results, **keywords):
    return CohortTuner("digits", overrides=OVERRIDES, space=SPACE, results=results, **FIELDS, **OPTIONS, **keywords)


def figures(sweep):
    return [(dict(row.searched), row.score, row.state, row.n) for row in sweep.ranking()]


def in_thread(function):
    """Call a function in a thread, and return its result."""
    returned = []
    thread = threading.Thread(target=lambda: returned.append(function()))
    thread.start()
    thread.join()
    assert returned, "it raised"
    return returned[0]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def fitted(results):
    """A sweep that was run in a thread, its callback, and the state of the process before and after."""
    log, before = Log(), process_state()
    sweep = in_thread(tuner(results, callbacks=[Broken(), log]).fit)
    return sweep, log, before, process_state()


@pytest.mark.slow
def test_a_sweep_sends_its_events_in_order_and_a_callback_that_raises_does_not_end_it(fitted):
    sweep, log, _, _ = fitted
    assert sweep.state == "finished"
    assert (log.events[0], log.events[-1]) == ("on_sweep_start", "on_sweep_end")
    for trial_id in ("0000", "0001"):
        of_trial = [event[0] for event in log.events if event[1] == trial_id]
        assert of_trial == ["on_trial_start", "on_trial_result", "on_trial_end"]
    assert log.heartbeats > 0
    ((end,),) = (details for event, details in zip(log.events, log.details, strict=True) if event == "on_sweep_end")
    assert (end.state, end.error, end.folder) == ("finished", None, sweep.folder)
    assert [row.score for row in end.conclusion.ranking] == [row.score for row in sweep.ranking()]
    assert all(file.exists() for file in [end.conclusion.best_spec, *end.conclusion.files])


@pytest.mark.slow
def test_a_sweep_leaves_signal_handlers_and_log_levels_as_they_were(fitted):
    _, _, before, after = fitted
    assert after == before


@pytest.mark.slow
def test_the_results_of_a_sweep(fitted):
    sweep, _, _, _ = fitted
    assert set(sweep.spec.space) == {"losses.alpha", "losses.beta", "losses.gamma", "losses.lam", "losses.tau"}
    ranking = sweep.ranking()
    assert len(ranking) == len(sweep.runs()) == 2
    assert sweep.best.run_id == ranking[0].run_ids[0]
    assert sweep.best.metrics["validation/top1/mean"] == ranking[0].score
    assert [trial.value for trial in sweep.study.best_trials] == [ranking[0].score]
    assert Sweep.open("latest", results=sweep.folder.parents[1]).sweep_id == sweep.sweep_id
    assert Sweep.open(sweep.folder).folder == sweep.folder
    page = sweep._repr_html_()
    assert html.escape(sweep.sweep_id) in page
    assert f"{ranking[0].score:.2f}" in page


@pytest.mark.slow
def test_a_second_sweep_in_the_same_process_prints_nothing_and_ranks_the_same(fitted, results, capfd):
    sweep, _, _, _ = fitted
    again = tuner(results).fit()
    assert capfd.readouterr() == ("", "")
    assert again.sweep_id != sweep.sweep_id
    assert figures(again) == figures(sweep)


@pytest.mark.slow
def test_the_command_ranks_the_same(fitted, shared_ray, tmp_path):
    sweep, _, _, _ = fitted
    fields = [f"{name}={value}" for name, value in {**FIELDS, **OVERRIDES}.items()]
    space = ("space.cohort.size=null", "space.tau={kind: float, low: 0.05, high: 0.5}")
    done = run_command(tmp_path, "sweep", "digits", *fields, *space, "--device", "cpu", ray=shared_ray)
    assert done.returncode == 0, done.stdout
    assert figures(Sweep.open("latest", results=tmp_path / "results")) == figures(sweep)


@pytest.mark.slow
def test_a_finished_sweep_is_restored_with_nothing_left_and_then_with_one_more_trial(fitted):
    folder, log = fitted[0].folder, Log()
    before = figures(fitted[0])
    assert figures(CohortTuner.restore(folder, callbacks=[log], **OPTIONS).fit()) == before
    assert log.events == []
    restored = CohortTuner.restore(folder, more_trials=1, callbacks=[log], **OPTIONS)
    assert (restored.resumption().left, restored.resumption().experiment.trials) == (1, 3)
    sweep = restored.fit()
    assert [event for event in log.events if event[0] == "on_trial_end"] == [("on_trial_end", "0002")]
    start = log.details[0][0]
    assert {trial.trial_id: end.state for trial, end in start.earlier} == {"0000": "finished", "0001": "finished"}
    assert len(sweep.ranking()) == 3
    assert [row for row in figures(sweep) if row in before] == before


def test_space_adds_replaces_and_removes_entries(tmp_path):
    space = {"cohort.size": None, "tau": {"kind": "float", "low": 0.1, "high": 0.2}, "alpha": FloatRange(low=0, high=2)}
    found = CohortTuner("digits", space=space, results=tmp_path).experiment.space
    assert "cohort.size" not in found
    assert (found["losses.tau"].high, found["losses.alpha"].high, found["losses.beta"].high) == (0.2, 2.0, 1.0)


def test_a_spec_object_a_suite_and_their_estimates(tmp_path):
    search = search_registry.digits()
    assert CohortTuner(search, trials=3).experiment == search.with_overrides(["trials=3"])
    tuner = CohortTuner(search, trials=3, epochs=2)
    estimate = tuner.estimate()
    assert estimate.steps == tuner.experiment.num_runs * estimate.run.steps
    suite = CohortTuner.suite("digits", rows=["*_x2"], epochs=2, results=tmp_path)
    assert list(suite.estimate().rows) == ["resnet8_x2"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "error", "rule"),
    [
        (lambda: CohortTuner("digts"), SpecError, "unknown search 'digts'; did you mean 'digits'?"),
        (lambda: CohortTuner("digits", tirals=3), SpecError, "unknown field 'tirals'; did you mean 'trials'?"),
        (lambda: CohortTuner("digits", space=[1]), SpecError, "`space` must be a mapping of fields to the values"),
        (lambda: CohortTuner("digits", callbacks=[print]), UserError, "that derive from SweepCallback, but got"),
        (lambda: CohortTuner("digits", alpha=0.5), SpecError, "losses.alpha is searched; space.losses.alpha=null"),
        (lambda: CohortTuner.suite("digits", rows=["no"]), SpecError, "unknown row 'no'"),
        (lambda: CohortTuner("digits", threads=1), SpecError, "cpus_per_worker=N sets the threads of a trial, but got"),
        (lambda: CohortTuner.restore("latest", resume=True), SpecError, "`resume` is an option of CohortTrainer"),
        (lambda: CohortTuner(FloatRange(low=0, high=1)), SpecError, "a SweepSpec or a SuiteSpec, but got FloatRange"),
        (lambda: CohortTuner.restore("no/sweeps/digits-1").fit(), StoreError, "digits-1"),
        (lambda: Sweep.open("no/sweeps/digits-1"), StoreError, "digits-1"),
    ],
)
def test_bad_input_raises_our_errors(call, error, rule):
    with pytest.raises(error) as raised:
        call()
    assert rule in str(raised.value)
