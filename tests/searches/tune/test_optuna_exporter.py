import optuna
import pytest

from mcl_ray.errors import StoreError
from searches.tune.optuna_exporter import OptunaExporter, open_storage
from tests.support.known_trials import sweep, trial
from tests.support.postgres import postgres


class TuneTrial:
    """What a listener is given of Tune's trial."""

    def __init__(self, number):
        self.config = {"losses.alpha": number / 100, "cohort.size": 2, "trial": f"{number:04d}"}


@pytest.fixture(scope="module")
def server():
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    return f"sqlite:///{tmp_path / 'study.db'}" if request.param == "sqlite" else request.getfixturevalue("server")


def mirrored(folder, database=None):
    study = optuna.load_study(
        study_name=folder.name, storage=open_storage(database or f"sqlite:///{folder / 'study.db'}")
    )
    return {kept.user_attrs["trial"]: kept for kept in study.trials}


def tell(mirror, event, number, **result):
    mirror(event, TuneTrial(number), result)


def test_trials_appear_as_they_happen(tmp_path, database):
    with OptunaExporter(sweep(study=database), tmp_path, []) as mirror:
        for number in range(4):
            tell(mirror, "started", number)
        tell(mirror, "reported", 0, epoch=1, score=50.0)
        mirror.wait()
        running = mirrored(tmp_path, database)["0000"]
        assert (running.state.name, running.intermediate_values) == ("RUNNING", {1: 50.0})
        assert running.params == {"losses.alpha": 0.0, "cohort.size": 2}
        tell(mirror, "completed", 0, epoch=3, score=70.0)
        tell(mirror, "completed", 1, epoch=1, score=30.0)
        tell(mirror, "completed", 2, epoch=0, failed="NonFiniteLossError: …")
        tell(mirror, "failed", 3, epoch=1, score=20.0)
    told = mirrored(tmp_path, database)
    assert {name: (kept.state.name, kept.value) for name, kept in told.items()} == {
        "0000": ("COMPLETE", 70.0),
        "0001": ("PRUNED", 30.0),
        "0002": ("FAIL", None),
        "0003": ("FAIL", None),
    }
    assert told["0002"].user_attrs["error"] == "NonFiniteLossError: …"


def test_a_sweep_that_goes_on_settles_what_the_killed_one_left_running(tmp_path, database):
    with OptunaExporter(sweep(study=database), tmp_path, []) as mirror:
        for number in range(3):
            tell(mirror, "started", number)
    known = [trial(0), trial(1, "unfinished", (40.0,)), trial(5, "stopped", (10.0,))]
    with OptunaExporter(sweep(study=database), tmp_path, known) as mirror:
        states = {name: kept.state.name for name, kept in mirrored(tmp_path, database).items()}
        assert states == {"0000": "COMPLETE", "0001": "RUNNING", "0002": "FAIL", "0005": "PRUNED"}
        tell(mirror, "started", 1)
        tell(mirror, "completed", 1, epoch=3, score=45.0)
    again = OptunaExporter(sweep(study=database), tmp_path, [*known[:1], trial(1, scores=(40.0, 41.0, 45.0)), known[2]])
    assert again is not None
    study = optuna.load_study(study_name=tmp_path.name, storage=open_storage(database))
    assert sorted((kept.user_attrs["trial"], kept.state.name) for kept in study.trials) == [
        ("0000", "COMPLETE"),
        ("0001", "COMPLETE"),
        ("0002", "FAIL"),
        ("0005", "PRUNED"),
    ]


def test_several_objectives_have_their_directions(tmp_path):
    asked = sweep(costs=["parameters"], **{"scheduler.kind": "none"})
    with OptunaExporter(asked, tmp_path, [trial(0)]) as mirror:
        tell(mirror, "completed", 1, epoch=3, score=70.0, parameters=500.0)
    study = optuna.load_study(study_name=tmp_path.name, storage=open_storage(f"sqlite:///{tmp_path / 'study.db'}"))
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert [kept.values for kept in study.trials] == [[70.0, 2000.0], [70.0, 500.0]]


@pytest.mark.slow
def test_a_database_that_fails_does_not_end_the_sweep_and_is_caught_up_with(tmp_path, caplog, monkeypatch):
    with OptunaExporter(sweep(), tmp_path, []) as mirror:
        (tmp_path / "study.db").rename(tmp_path / "away.db")
        tell(mirror, "started", 0)
        tell(mirror, "completed", 0, epoch=3, score=70.0)
        mirror.wait()
        (tmp_path / "study.db").unlink(missing_ok=True)
        (tmp_path / "away.db").rename(tmp_path / "study.db")
        monkeypatch.setattr("searches.tune.optuna_exporter.read_trials", lambda *_: [trial(0)])
    assert "missed a trial" in caplog.text
    assert mirrored(tmp_path)["0000"].state.name == "COMPLETE"


def test_a_database_that_does_not_answer_is_an_error_without_its_password(tmp_path):
    with pytest.raises(StoreError, match="must answer") as error:
        open_storage(f"sqlite:////{tmp_path}/no/such/folder/study.db")
    with pytest.raises(StoreError, match=r"postgresql.*\*\*\*") as error:
        open_storage("postgresql+psycopg://me:secret@127.0.0.1:1/study")
    assert "secret" not in str(error.value)
