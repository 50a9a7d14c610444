import pytest
from optuna.trial import TrialState

from searches.tune.optuna_searcher import OptunaSearcher
from searches.tune.sampler_memory import STUDY_FILE
from tests.support.known_trials import sweep, trial
from tests.support.trial_events import finished, info

KNOWN = [trial(0), trial(1, "unfinished", (40.0,)), trial(2, "stopped", (30.0,)), trial(3, "failed", ())]


def proposals(study, count, first=0):
    searcher = study.searcher()
    return [searcher.suggest(f"tune-{number}") for number in range(first, first + count)]


def test_unfinished_trials_come_first_then_start_points_then_proposals(tmp_path):
    first, second, third = proposals(OptunaSearcher(sweep(), tmp_path, KNOWN, []), 3)
    assert first == {"losses.alpha": 0.01, "cohort.size": 2, "trial": "0001"}
    assert second == {"losses.alpha": 0.1, "cohort.size": 2, "trial": "0004"}, "the run's own values"
    assert third["trial"] == "0005"


def test_a_recorded_start_point_is_not_tried_again(tmp_path):
    (first,) = proposals(OptunaSearcher(sweep(), tmp_path, [trial(0, alpha=0.1)], []), 1)
    assert first["trial"] == "0001"
    assert first["losses.alpha"] != 0.1


def test_the_first_trial_of_a_new_sweep_is_number_0000_with_the_runs_own_values(tmp_path):
    first, second = proposals(OptunaSearcher(sweep(), tmp_path, [], []), 2)
    assert first == {"losses.alpha": 0.1, "cohort.size": 2, "trial": "0000"}
    assert second["trial"] == "0001"


def test_the_sampler_knows_every_trial_that_ended_with_its_values(tmp_path):
    study = OptunaSearcher(sweep(), tmp_path, KNOWN, [])._study
    reported = {kept.user_attrs["trial"]: kept for kept in study.trials if kept.state.is_finished()}
    assert {name: (kept.state, kept.value) for name, kept in reported.items()} == {
        "0000": (TrialState.COMPLETE, 70.0),
        "0002": (TrialState.COMPLETE, 30.0),
        "0003": (TrialState.FAIL, None),
    }
    assert reported["0000"].params == {"losses.alpha": 0.0, "cohort.size": 2}
    assert reported["0000"].intermediate_values == {1: 50.0, 2: 60.0, 3: 70.0}


def test_a_warm_start_adds_trials_and_changes_no_ids(tmp_path):
    warm = [trial(7)]
    study = OptunaSearcher(sweep(), tmp_path, [], warm)
    assert [kept.value for kept in study._study.trials if kept.state.is_finished()] == [70.0]
    assert [point["trial"] for point in proposals(study, 2)] == ["0000", "0001"]


def test_nsga2_continues_its_generations(tmp_path):
    asked = sweep(
        **{"sampler.kind": "nsga2", "sampler.population": 2, "costs": ["parameters"], "scheduler.kind": "none"}
    )
    study = OptunaSearcher(asked, tmp_path, [], [])
    searcher, known = study.searcher(), []
    for number in range(4):
        point = searcher.suggest(f"tune-{number}")
        known.append(trial(number, alpha=point["losses.alpha"], size=point["cohort.size"]))
        searcher.on_trial_complete(f"tune-{number}", {"score": 70.0, "parameters": 1000.0})
    study.on_trial_end(info(0), finished(70.0))

    def generations(trials):
        return [value for kept in trials for name, value in kept.system_attrs.items() if name.endswith("generation")]

    rebuilt = OptunaSearcher(asked, tmp_path, known, [])._study
    assert generations(rebuilt.trials) == generations(study._study.trials)
    assert max(generations(rebuilt.trials)) == 1


def test_a_trial_stores_what_the_sampler_keeps_of_it_and_of_those_that_run_beside_it_alone(tmp_path):
    asked = sweep(**{"sampler.kind": "nsga2", "sampler.population": 2, "scheduler.kind": "none"})
    study = OptunaSearcher(asked, tmp_path, [trial(0), trial(1, "unfinished", (40.0,))], [])
    searcher = study.searcher()
    names = [searcher.suggest(f"tune-{number}")["trial"] for number in range(4)]
    assert names == ["0001", "0002", "0003", "0004"]
    looked_at = {name: [one.number for one in study._changed(info(int(name)))] for name in names[:2]}
    assert looked_at == {"0001": [1, 2, 3, 4], "0002": [1, 2, 3, 4]}, "all that run"
    for number in range(3):
        searcher.on_trial_complete(f"tune-{number}", {"score": 70.0})
    assert [one.number for one in study._changed(info(3))] == [1, 2, 3, 4], "those that ended since the last call, too"
    assert [one.number for one in study._changed(info(1))] == [1, 4]


def test_the_reports_of_a_process_that_was_started_again_are_no_warning(tmp_path):
    study = OptunaSearcher(sweep(), tmp_path, [], [])
    searcher = study.searcher()
    searcher.suggest("tune-0")
    for epoch in (1, 2):
        searcher.on_trial_result("tune-0", {"epoch": epoch, "score": 50.0 + epoch, "training_iteration": 1})
    searcher.on_trial_complete("tune-0", {"epoch": 2, "score": 52.0})
    assert study._study.trials[0].value == 52.0


def test_a_trial_that_reports_its_failure_is_failed_in_the_study(tmp_path):
    study = OptunaSearcher(sweep(), tmp_path, [], [])
    searcher = study.searcher()
    searcher.suggest("tune-0")
    searcher.on_trial_result("tune-0", {"epoch": 1, "score": 50.0, "training_iteration": 1})
    searcher.on_trial_result("tune-0", {"epoch": 0, "failed": "NonFiniteLossError", "training_iteration": 2})
    searcher.on_trial_complete("tune-0", {"epoch": 0, "failed": "NonFiniteLossError"})
    assert study._study.trials[0].state == TrialState.FAIL


@pytest.mark.parametrize("damage", [lambda text: "", lambda text: text[:9], lambda text: text.replace("7", "9")])
def test_a_damaged_memory_of_the_sampler_is_set_aside_and_the_trials_suffice(tmp_path, caplog, damage):
    study = OptunaSearcher(sweep(), tmp_path, [], [])
    study._storage.set_study_system_attr(study._study_id, "qmc:position", 77)
    study.on_trial_start(info(0))
    file = tmp_path / STUDY_FILE
    assert kept_attributes(OptunaSearcher(sweep(), tmp_path, KNOWN, [])) == {"qmc:position": 77}
    file.write_text(damaged := damage(file.read_text()))
    again = OptunaSearcher(sweep(), tmp_path, KNOWN, [])
    assert kept_attributes(again) == {}
    assert len([kept for kept in again._study.trials if kept.state.is_finished()]) == 3
    (aside,) = tmp_path.glob(f"{STUDY_FILE}.damaged-*")
    assert aside.read_text() == damaged
    assert f"set aside as {aside.name}" in caplog.text


def kept_attributes(study):
    attributes = study._storage.get_study_system_attrs(study._study_id)
    return {name: value for name, value in attributes.items() if name.startswith("qmc:")}
