import sqlite3
from contextlib import closing

import optuna
import pytest

from mcl_ray.errors import StoreError
from searches.tune.optuna_exporter import OptunaExporter, open_storage, study_name, study_url
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
    (tmp_path / "runs").mkdir()
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
    known = [trial(0), trial(1, "unfinished", (40.0,)), trial(3, "stopped", (10.0,))]
    with OptunaExporter(sweep(study=database), tmp_path, known) as exporter:
        states = {name: one.state.name for name, one in exported(tmp_path, database).items()}
        assert states == {"0000": "COMPLETE", "0001": "RUNNING", "0002": "FAIL", "0003": "PRUNED"}
        exporter.on_trial_start(at(1))
        exporter.on_trial_end(at(1), finished(45.0))
    again = OptunaExporter(sweep(study=database), tmp_path, [*known[:1], trial(1, scores=(40.0, 41.0, 45.0)), known[2]])
    assert again is not None
    study = optuna.load_study(study_name=tmp_path.name, storage=open_storage(database))
    assert sorted((one.user_attrs["trial"], one.state.name) for one in study.trials) == [
        ("0000", "COMPLETE"),
        ("0001", "COMPLETE"),
        ("0002", "FAIL"),
        ("0003", "PRUNED"),
    ]


def numbered(folder, database):
    """Return (number, id, state) of every trial of a sweep's study."""
    return [(one.number, one.user_attrs["trial"], one.state.name) for one in of_sweep(folder, database).trials]


def test_the_number_of_a_trial_is_its_id_also_after_a_kill_and_a_retry(tmp_path, database):
    killed_one = OptunaExporter(sweep(study=database), tmp_path, [])
    for number in (0, 1, 3, 2):  # the last two in another order, and the last one is never recorded
        killed_one.on_trial_start(at(number))
    killed_one.on_trial_end(at(0), failed())
    killed_one.wait()
    of_sweep(tmp_path, database).set_user_attr("note", "mine")
    killed = [trial(0, "failed", ()), trial(1), trial(3, "unfinished", (40.0,))]
    with OptunaExporter(sweep(study=database), tmp_path, killed):
        expected = [(0, "0000", "FAIL"), (1, "0001", "COMPLETE"), (2, "0002", "FAIL"), (3, "0003", "RUNNING")]
        assert numbered(tmp_path, database) == expected
    retried = [trial(0, "unfinished", ()), trial(1), trial(3)]
    with OptunaExporter(sweep(study=database), tmp_path, retried) as exporter:
        exporter.on_trial_start(at(0))
        exporter.on_trial_start(at(4))
        exporter.on_trial_end(at(0), finished(80.0))
        exporter.on_trial_end(at(4), finished(75.0))
    assert numbered(tmp_path, database) == [
        (0, "0000", "COMPLETE"),
        (1, "0001", "COMPLETE"),
        (2, "0002", "FAIL"),
        (3, "0003", "COMPLETE"),
        (4, "0004", "COMPLETE"),
    ]
    assert of_sweep(tmp_path, database).user_attrs == {"note": "mine"}


def test_trials_that_start_in_another_order_are_in_theirs_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("searches.tune.optuna_exporter.read_trials", lambda *_: [trial(0), trial(1)])
    with OptunaExporter(sweep(), tmp_path, []) as exporter:
        for number in (1, 0):
            exporter.on_trial_start(at(number))
            exporter.on_trial_end(at(number), finished(70.0))
    assert numbered(tmp_path, study_url(sweep(), tmp_path)) == [(0, "0000", "COMPLETE"), (1, "0001", "COMPLETE")]


def test_the_error_of_a_folder_that_was_renamed_stays_the_one_that_is_reported(tmp_path):
    folder = tmp_path / "sweep"
    folder.mkdir()
    exporter = OptunaExporter(sweep(), folder, [])
    for number in (1, 0):  # in another order than they were proposed in
        exporter.on_trial_start(at(number))
    exporter.wait()
    folder.rename(tmp_path / "moved")
    exporter.__exit__(StoreError, StoreError("it was renamed"), None)  # and raises none of its own


def test_several_objectives_have_their_directions(tmp_path):
    asked = sweep(costs=["parameters"], **{"scheduler.kind": "none"})
    with OptunaExporter(asked, tmp_path, [trial(0)]) as exporter:
        exporter.on_trial_end(at(1), finished(70.0, parameters=500.0))
    study = optuna.load_study(study_name=tmp_path.name, storage=open_storage(f"sqlite:///{tmp_path / 'study.db'}"))
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert [one.values for one in study.trials] == [[70.0, 2000.0], [70.0, 500.0]]


@pytest.mark.slow
def test_a_trial_whose_process_died_after_its_record_was_complete_is_what_the_record_says(tmp_path, monkeypatch):
    monkeypatch.setattr("searches.tune.optuna_exporter.read_trials", lambda *_: [trial(0), trial(1, "failed")])
    with OptunaExporter(sweep(), tmp_path, []) as exporter:
        for number in range(2):
            exporter.on_trial_start(at(number))
            exporter.on_trial_end(at(number), failed("its process died", process_died=True))
    study = exported(tmp_path)
    assert {name: (one.state.name, one.value) for name, one in study.items()} == {
        "0000": ("COMPLETE", 70.0),
        "0001": ("FAIL", None),
    }


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


def test_sweeps_of_two_results_folders_have_two_studies_in_one_database(tmp_path, database):
    folders = [tmp_path / name / "digits-0123456789-1" for name in ("a", "b")]
    exporters = []
    for folder in folders:
        folder.mkdir(parents=True)
        exporters.append(OptunaExporter(sweep(study=database), folder, []))
    for exporter in exporters:
        exporter.on_trial_start(at(0))
        exporter.wait()
    OptunaExporter(sweep(study=database), folders[1], [trial(0, "unfinished")])
    for folder, exporter, score in zip(folders, exporters, (70.0, 30.0), strict=True):
        assert [one.state.name for one in of_sweep(folder, database).trials] == ["RUNNING"]
        exporter.on_trial_end(at(0), finished(score))
        exporter.wait()
    assert [of_sweep(folder, database).trials[0].value for folder in folders] == [70.0, 30.0]
    assert study_name(folders[0]) == folders[0].name
    assert study_name(folders[1]).startswith(f"{folders[1].name}-")


def of_sweep(folder, database):
    return optuna.load_study(study_name=study_name(folder), storage=open_storage(database))


def test_a_sweep_of_earlier_code_keeps_its_study(tmp_path):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    optuna.create_study(study_name=tmp_path.name, storage=open_storage(url), direction="maximize")
    with OptunaExporter(sweep(study=url), tmp_path, [trial(0)]):
        assert study_name(tmp_path) == tmp_path.name
    assert len(of_sweep(tmp_path, url).trials) == 1


@pytest.mark.parametrize("name", ["what?", "a?b=c&d", "100%", "100%3F?", "a#b", "a b;c"])
def test_a_path_may_have_any_character(name, tmp_path):
    folder = tmp_path / name / "sweep"
    folder.mkdir(parents=True)
    with OptunaExporter(sweep(), folder, [trial(0)]):
        pass
    assert [file.name for file in folder.iterdir()] == ["study.db"]
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert len(of_sweep(folder, study_url(sweep(), folder)).trials) == 1


@pytest.mark.parametrize("version", ["v2.6.0.a", "v0.9.0.a", "v9.9.9.z", "nonsense", None])
def test_a_database_of_another_schema_is_one_line(version, tmp_path):
    url = f"sqlite:///{tmp_path / 'old.db'}"
    open_storage(url)
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection, connection:
        if version is None:
            connection.execute("drop table alembic_version")
            connection.execute("update version_info set schema_version = 3")
        else:
            connection.execute("update alembic_version set version_num = ?", (version,))
    with pytest.raises(
        StoreError, match=r"the study's database must answer, but sqlite:///.*old\.db does not: "
    ) as caught:
        open_storage(url)
    assert "\n" not in str(caught.value)


def test_a_database_with_tables_of_another_program_is_one_line(tmp_path):
    with closing(sqlite3.connect(tmp_path / "theirs.db")) as connection, connection:
        connection.execute("create table studies (title text)")
    with pytest.raises(StoreError, match=r"theirs\.db does not: .*no such column: studies\.study_id") as caught:
        open_storage(f"sqlite:///{tmp_path}/theirs.db")
    assert "SELECT" not in str(caught.value)


def test_a_database_that_can_only_be_read_is_one_line(tmp_path):
    open_storage(f"sqlite:///{tmp_path}/x.db")
    url = f"sqlite:///file:{tmp_path}/x.db?mode=ro&uri=true"
    with pytest.raises(StoreError, match="does not: .*attempt to write a readonly database"):
        OptunaExporter(sweep(study=url), tmp_path, [])


def test_a_url_that_is_none_is_one_line():
    with pytest.raises(StoreError, match="must answer, but postgresql://… does not: invalid literal"):
        open_storage("postgresql://me:secret@host:port/study")


def test_a_question_mark_in_a_users_url_begins_options(tmp_path):
    with pytest.raises(StoreError, match=r"`\?` begins the options of a database's URL, but got sqlite:///.*what"):
        open_storage(f"sqlite:///{tmp_path}/what?/study.db")
    assert list(tmp_path.iterdir()) == []


def damage(content, kind):
    """The bytes of a file that a disk has damaged."""
    return {"empty": b"", "cut": content[: len(content) // 3], "noise": b"\xff" * 100 + content[100:]}[kind]


@pytest.mark.parametrize("kind", ["cut", "noise"])
def test_a_damaged_study_is_set_aside_and_exported_again(tmp_path, caplog, kind):
    with OptunaExporter(sweep(), tmp_path, [trial(0)]):
        pass
    file = tmp_path / "study.db"
    damaged = damage(file.read_bytes(), kind)
    file.write_bytes(damaged)
    with OptunaExporter(sweep(), tmp_path, [trial(0), trial(1)]):
        assert set(exported(tmp_path)) == {"0000", "0001"}
    (aside,) = tmp_path.glob("study.db.damaged-*")
    assert aside.read_bytes() == damaged
    assert f"set aside as {aside.name}" in caplog.text


DAMAGED_VALUES = {
    "trial_intermediate_values": "intermediate_value_type = 'FANITE'",
    "trials": "state = 'RUNNINF'",
    "study_directions": "direction = 'MAXIMIZD'",
    "trial_user_attributes": "value_json = '{'",
    "trial_params": 'distribution_json = \'{"name": "IntDistributiom", "attributes": {}}\'',
}
"""Table → what differs by a bit or two from what Optuna writes: SQLite finds nothing wrong with it."""


@pytest.mark.parametrize("table", DAMAGED_VALUES)
def test_a_study_with_a_damaged_value_is_set_aside_and_exported_again(tmp_path, caplog, table):
    """In a database that is shared, nothing is set aside: the error is one line."""
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    for study, file in ((None, "study.db"), (url, "shared.db")):
        with OptunaExporter(sweep(study=study), tmp_path, [trial(0), trial(1, "unfinished", (40.0,))]):
            pass
        with closing(sqlite3.connect(tmp_path / file)) as connection, connection:
            assert connection.execute(f"update {table} set {DAMAGED_VALUES[table]}").rowcount > 0
    with OptunaExporter(sweep(), tmp_path, [trial(0), trial(1)]):
        assert set(exported(tmp_path)) == {"0000", "0001"}
    (aside,) = tmp_path.glob("study.db.damaged-*")
    assert f"set aside as {aside.name}" in caplog.text
    with pytest.raises(StoreError, match=r"the study's database must answer, but sqlite:///.*shared\.db does not: "):
        OptunaExporter(sweep(study=url), tmp_path, [trial(0), trial(1)])


def test_a_sweep_whose_studys_name_is_damaged_has_a_new_study_and_leaves_that_of_others_alone(tmp_path):
    url, folders = f"sqlite:///{tmp_path / 'shared.db'}", [tmp_path / name / "digits-1" for name in ("a", "b")]
    for folder in folders:
        folder.mkdir(parents=True)
        with OptunaExporter(sweep(study=url), folder, []) as exporter:
            exporter.on_trial_end(at(0), finished(70.0))
    (folders[1] / "study.json").write_bytes(b'{"na')
    with OptunaExporter(sweep(study=url), folders[1], [trial(0), trial(1)]):
        assert [len(of_sweep(folder, url).trials) for folder in folders] == [1, 2]
