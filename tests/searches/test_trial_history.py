import optuna
from optuna.trial import TrialState

from mcl_ray.analysis.ranking import ranking
from mcl_ray.config.overrides import replace
from mcl_ray.results.store import EpochRow, RunWriter, read_epochs, read_runs
from searches.spec.space import contains
from searches.trial_history import read_trials
from searches.tune.converters import to_frozen_trial
from tests.support.known_trials import SPACE, sweep

STATES = {"finished": TrialState.COMPLETE}


def write(folder, asked, trial, repeat, scores, state, **searched):
    point = {"losses.alpha": 0.5, "cohort.size": 2} | searched
    spec = replace(asked.run, point | {"seed": repeat})
    labels = {"searched": point, "sweep_id": folder.name, "trial_id": trial}
    with RunWriter.begin(folder, f"{folder.name}-{trial}-r{repeat}", spec, **labels) as writer:
        writer.describe(parameters=100 * (repeat + 1), multiply_adds=7)
        for epoch, score in enumerate(scores, start=1):
            seconds = EpochRow("cohort", "train", "epoch_time_s", 1.5)
            writer.record_epoch(epoch, [EpochRow("mean", "validation", "top1", score), seconds])
        if state is not None:  # else it was killed
            writer.finish(state)


def read(folder, asked):
    return {trial.trial_id: trial for trial in read_trials(folder, asked)}


def test_trials_are_read_as_their_runs_ended(tmp_path):
    asked = sweep()
    for trial, state in (("0000", "finished"), ("0001", "stopped"), ("0002", "failed"), ("0003", None)):
        write(tmp_path, asked, trial, 0, [50.0, 60.0], state)
    write(tmp_path, asked, "0004", 0, [50.0], "interrupted")
    known = read(tmp_path, asked)
    assert {name: trial.state for name, trial in known.items()} == {
        "0000": "finished",
        "0001": "stopped",
        "0002": "failed",
        "0003": "unfinished",
        "0004": "unfinished",
    }
    assert known["0000"].curve == ((1, 50.0), (2, 60.0))
    assert (known["0000"].score, known["0002"].score) == (60.0, None)
    assert known["0000"].point == {"losses.alpha": 0.5, "cohort.size": 2}


def test_a_trial_that_ends_without_a_finite_figure_has_no_score_as_in_the_ranking(tmp_path):
    asked = sweep()
    write(tmp_path, asked, "0000", 0, [99.0, float("nan")], "finished")
    write(tmp_path, asked, "0001", 0, [float("nan"), 60.0], "finished")
    known = read(tmp_path, asked)
    assert (known["0000"].score, known["0000"].end.result, known["0000"].curve) == (None, None, ((1, 99.0),))
    assert known["0001"].score == 60.0
    runs, epochs = read_runs(tmp_path), read_epochs(tmp_path)
    rows = {row.trial_id: row.score for row in ranking(runs, epochs, asked.objective, "max")}
    assert rows == {name: trial.score for name, trial in known.items()}
    assert to_frozen_trial(asked, known["0000"], STATES).state == TrialState.FAIL


def test_a_seed_that_ends_without_a_finite_figure_does_not_count_as_in_the_ranking(tmp_path):
    asked = sweep(repeats=3)
    for repeat, last in enumerate([60.0, float("nan"), 70.0]):
        write(tmp_path, asked, "0000", repeat, [50.0, last], "finished")
    for repeat, last in enumerate([60.0, float("nan"), float("nan")]):
        write(tmp_path, asked, "0001", repeat, [50.0, last], "finished")
    known = read(tmp_path, asked)
    assert (known["0000"].score, known["0000"].n, known["0001"].score) == (65.0, 2, None)
    runs, epochs = read_runs(tmp_path), read_epochs(tmp_path)
    rows = {row.trial_id: row.score for row in ranking(runs, epochs, asked.objective, "max", repeats=3)}
    assert rows == {name: trial.score for name, trial in known.items()}


def test_a_configuration_is_unfinished_until_each_of_its_seeds_ended(tmp_path):
    asked = sweep(repeats=3)
    write(tmp_path, asked, "0000", 0, [50.0], "finished")
    write(tmp_path, asked, "0000", 1, [60.0], "finished")
    assert read(tmp_path, asked)["0000"].state == "unfinished"
    write(tmp_path, asked, "0000", 2, [70.0], None)
    assert read(tmp_path, asked)["0000"].state == "unfinished"
    write(tmp_path, asked, "0000", 2, [70.0], "finished")
    assert read(tmp_path, asked)["0000"].state == "finished"


def test_the_score_is_that_of_the_seeds_that_live_while_they_are_more_than_half(tmp_path):
    asked = sweep(repeats=3, **{"score.kind": "mean_minus_std", "costs": ["parameters"], "scheduler.kind": "none"})
    write(tmp_path, asked, "0000", 0, [10.0, 50.0], "finished")
    write(tmp_path, asked, "0000", 1, [20.0, 60.0], "finished")
    write(tmp_path, asked, "0000", 2, [0.0], "failed")
    trial = read(tmp_path, asked)["0000"]
    assert trial.state == "finished"
    assert trial.score == 55.0 - 50**0.5
    assert trial.costs == {"parameters": 150.0, "multiply_adds": 7.0, "training_time_s": 3.0}
    assert (trial.mean, trial.std, trial.n) == (55.0, 50**0.5, 2)
    write(tmp_path, asked, "0000", 1, [20.0], "failed")
    assert read(tmp_path, asked)["0000"].state == "failed"


def test_a_curve_has_the_epochs_that_all_seeds_have(tmp_path):
    asked = sweep(repeats=2)
    write(tmp_path, asked, "0000", 0, [10.0, 20.0, 30.0], None)
    write(tmp_path, asked, "0000", 1, [20.0, 30.0], None)
    assert read(tmp_path, asked)["0000"].curve == ((1, 15.0), (2, 25.0))


def test_a_field_without_effect_that_an_earlier_version_sampled_is_left_out(tmp_path):
    beta = {"losses.beta": {"kind": "float", "low": 0.0, "high": 1.0}}
    asked = replace(sweep(), {"space": SPACE | beta})
    write(tmp_path, asked, "0000", 0, [50.0], "finished", **{"cohort.size": 1, "losses.beta": 0.7})
    write(tmp_path, asked, "0001", 0, [50.0], "finished", **{"cohort.size": 2, "losses.beta": 0.7})
    alone, pair = read(tmp_path, asked).values()
    assert alone.point == {"losses.alpha": 0.5, "cohort.size": 1}
    assert pair.point == {"losses.alpha": 0.5, "cohort.size": 2, "losses.beta": 0.7}
    assert contains(asked.space, alone.point)
    study = optuna.create_study()
    study.add_trials(to_frozen_trial(asked, trial, STATES) for trial in (alone, pair))
    assert set(study.trials[0].params) == {"losses.alpha", "cohort.size"}


def test_the_baseline_and_further_seeds_are_no_trials(tmp_path):
    asked = sweep()
    for trial, repeat in (("0000", 0), ("0000", 1), ("baseline", 0)):
        write(tmp_path, asked, trial, repeat, [50.0 + repeat], "finished")
    (trial,) = read(tmp_path, asked).values()
    assert (trial.trial_id, trial.n, trial.score) == ("0000", 1, 50.0)
