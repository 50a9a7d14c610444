import optuna
import pytest

from mcl_ray.errors import StoreError
from searches.tune.optuna_exporter import OptunaExporter, open_storage
from tests.support.known_trials import sweep, trial
from tests.support.postgres import postgres
from tests.support.trial_events import failed, finished, info, result, stopped


def at(number):
    return info(number, **{"losses.alpha": number / 100, "cohort.size": 2})


@pytest.fixture(scope="module")
def server():
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    return f"sqlite:///{tmp_path / 'study.db'}" if request.param == "sqlite" else request.getfixturevalue("server")


def exported(folder, database=None):
    study = optuna.load_study(
        study_name=folder.name, storage=open_storage(database or f"sqlite:///{folder / 'study.db'}")
    )
    return {one.user_attrs["trial"]: one for one in study.trials}


def test_trials_appear_as_they_happen(tmp_path, database):
    with OptunaExporter(sweep(study=database), tmp_path, []) as exporter:
        for number in range(4):
            exporter.on_trial_start(at(number))
        exporter.on_trial_result(at(0), result(50.0, epoch=1))
        exporter.wait()
        running = exported(tmp_path, database)["0000"]
        assert (running.state.name, running.intermediate_values) == ("RUNNING", {1: 50.0})
        assert running.params == {"losses.alpha": 0.0, "cohort.size": 2}
        exporter.on_trial_end(at(0), finished(70.0))
        exporter.on_trial_end(at(1), stopped(30.0))
        exporter.on_trial_end(at(2), failed())
        exporter.on_trial_end(at(3), failed("its process died", process_died=True))
    study = exported(tmp_path, database)
    assert {name: (one.state.name, one.value) for name, one in study.items()} == {
        "0000": ("COMPLETE", 70.0),
        "0001": ("PRUNED", 30.0),
        "0002": ("FAIL", None),
        "0003": ("FAIL", None),
    }
    assert study["0002"].user_attrs["error"] == "NonFiniteLossError: …"


def test_a_resumed_sweep_settles_trials_that_a_killed_one_left_running(tmp_path, database):
    with OptunaExporter(sweep(study=database), tmp_path, []) as exporter:
        for number in range(3):
            exporter.on_trial_start(at(number))
    known = [trial(0), trial(1, "unfinished", (40.0,)), trial(5, "stopped", (10.0,))]
    with OptunaExporter(sweep(study=database), tmp_path, known) as exporter:
        states = {name: one.state.name for name, one in exported(tmp_path, database).items()}
        assert states == {"0000": "COMPLETE", "0001": "RUNNING", "0002": "FAIL", "0005": "PRUNED"}
        exporter.on_trial_start(at(1))
        exporter.on_trial_end(at(1), finished(45.0))
    again = OptunaExporter(sweep(study=database), tmp_path, [*known[:1], trial(1, scores=(40.0, 41.0, 45.0)), known[2]])
    assert again is not None
    study = optuna.load_study(study_name=tmp_path.name, storage=open_storage(database))
    assert sorted((one.user_attrs["trial"], one.state.name) for one in study.trials) == [
        ("0000", "COMPLETE"),
        ("0001", "COMPLETE"),
        ("0002", "FAIL"),
        ("0005", "PRUNED"),
    ]


def test_several_objectives_have_their_directions(tmp_path):
    asked = sweep(costs=["parameters"], **{"scheduler.kind": "none"})
    with OptunaExporter(asked, tmp_path, [trial(0)]) as exporter:
        exporter.on_trial_end(at(1), finished(70.0, parameters=500.0))
    study = optuna.load_study(study_name=tmp_path.name, storage=open_storage(f"sqlite:///{tmp_path / 'study.db'}"))
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert [one.values for one in study.trials] == [[70.0, 2000.0], [70.0, 500.0]]


@pytest.mark.slow
def test_a_database_that_fails_does_not_end_the_sweep_and_is_updated_at_its_end(tmp_path, caplog, monkeypatch):
    with OptunaExporter(sweep(), tmp_path, []) as exporter:
        (tmp_path / "study.db").rename(tmp_path / "away.db")
        exporter.on_trial_start(at(0))
        exporter.on_trial_end(at(0), finished(70.0))
        exporter.wait()
        (tmp_path / "study.db").unlink(missing_ok=True)
        (tmp_path / "away.db").rename(tmp_path / "study.db")
        monkeypatch.setattr("searches.tune.optuna_exporter.read_trials", lambda *_: [trial(0)])
    assert "missed a trial" in caplog.text
    assert exported(tmp_path)["0000"].state.name == "COMPLETE"


def test_a_database_that_does_not_answer_is_an_error_without_its_password(tmp_path):
    with pytest.raises(StoreError, match="must answer") as error:
        open_storage(f"sqlite:////{tmp_path}/no/such/folder/study.db")
    with pytest.raises(StoreError, match=r"postgresql.*\*\*\*") as error:
        open_storage("postgresql+psycopg://me:secret@127.0.0.1:1/study")
    assert "secret" not in str(error.value)
