"""An S3 store and two machines that share only this store: each reads the records that the other wrote."""

from __future__ import annotations

import hashlib
import shutil

import pytest

from mcl_ray.config.environment import Environment, replica_folder
from mcl_ray.config.spec import DataSpec
from mcl_ray.data.source import load_dataset
from mcl_ray.errors import DataError, StoreError
from mcl_ray.object_store import Remote, Uri, caches
from mcl_ray.results.atomic_io import FolderLock
from mcl_ray.results.remote import pull
from mcl_ray.results.store import RunWriter, SweepWriter, open_results, read_epochs, read_runs, read_sweeps, state_of
from tests.support.data import contents, tar_of
from tests.support.s3 import serving
from tests.support.synthetic import SweepSpec, record_epochs, spec, write_checkpoint

EPOCHS = 4


@pytest.fixture(scope="module")
def store():
    with serving() as served:
        yield served


@pytest.fixture
def uri(store, tmp_path):
    return Uri(store.uri(tmp_path.name))


@pytest.fixture
def objects(store, tmp_path):
    """Return name → content of the objects in the store."""
    return lambda: store.objects(tmp_path.name)


@pytest.fixture
def on(uri, tmp_path, monkeypatch):
    """Return `on`: `on("a")` lets this process act as one of machine a, and returns its results folder."""

    def machine(name):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        environment = Environment(store=uri).on_this_node()
        open_results(environment)
        return environment.results

    return machine


def checkpoints(names):
    return sorted(name.split("/")[-1][:10] for name in names if "/checkpoints/" in f"/{name}")


def names_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_is_read_on_another_machine(on, objects):
    local = on("a")
    with RunWriter.create(local, spec(epochs=EPOCHS)) as writer:
        record_epochs(writer, *range(1, EPOCHS + 1))
        writer.finish("finished")
    runs, figures = read_runs(local), read_epochs(local)
    assert checkpoints(objects()) == ["epoch-0003", "epoch-0004"]
    assert checkpoints(names_in(local)) == [], "they are fetched on demand"

    other = on("b")
    assert other != local
    pull.fetch(other)
    assert (read_runs(other), read_epochs(other)) == (runs, figures)
    assert checkpoints(names_in(other)) == []
    pull.fetch(other / "runs" / writer.run_id, checkpoints=True)
    assert checkpoints(names_in(other)) == ["epoch-0003", "epoch-0004"]
    assert not any("lock" in name or "tmp" in name or "store" in name for name in objects())


def test_every_epoch_is_in_the_store_once_it_is_recorded(on, objects):
    writer = RunWriter.create(on("a"), spec(epochs=EPOCHS))
    for epoch in range(1, EPOCHS + 1):
        record_epochs(writer, epoch)
        assert checkpoints(objects())[-1] == f"epoch-{epoch:04d}"
        other = on("b")
        pull.fetch(other)
        assert read_runs(other)["epochs_done"].to_pylist() == [epoch]
        assert max(read_epochs(other)["epoch"].to_pylist()) == epoch
        on("a")
    writer.close()


def test_the_row_is_sent_last(on, monkeypatch):
    writer, sent = RunWriter.create(on("a"), spec(epochs=EPOCHS)), []
    write = Remote.write
    monkeypatch.setattr(
        Remote, "write", lambda remote, name, content: (sent.append(name), write(remote, name, content))
    )
    record_epochs(writer, 1)
    writer.close()
    assert [name.split("/")[2] for name in sent] == ["checkpoints", "epochs-a0001.parquet", "run.parquet"]


def test_a_run_is_resumed_on_another_machine_and_then_on_the_first(on, objects):
    writer = RunWriter.create(on("a"), spec(epochs=EPOCHS))
    record_epochs(writer, 1, 2)
    writer.close()  # as if its process was killed
    write_checkpoint(writer.checkpoints, 3)  # written just before it was killed

    other = on("b")
    with RunWriter.begin(other, writer.run_id, spec(epochs=EPOCHS)) as second:
        assert checkpoints(names_in(second.folder)) == ["epoch-0001", "epoch-0002"]
        record_epochs(second, 3)
    with RunWriter.begin(on("a"), writer.run_id, spec(epochs=EPOCHS)) as third:
        assert (third.attempt, checkpoints(names_in(third.folder))) == (3, ["epoch-0002", "epoch-0003"])
        record_epochs(third, 4)
        third.finish("finished")
    assert checkpoints(objects()) == ["epoch-0003", "epoch-0004"]
    pull.fetch(on("b"))
    assert state_of(other / "runs" / writer.run_id) == "finished"
    assert sorted(set(read_epochs(other)["epoch"].to_pylist())) == [1, 2, 3, 4]


def test_a_writer_stops_when_its_run_was_resumed_on_another_machine(on, objects):
    orphan = RunWriter.create(on("a"), spec(epochs=EPOCHS))
    record_epochs(orphan, 1)
    second = RunWriter.begin(on("b"), orphan.run_id, spec(epochs=EPOCHS))
    record_epochs(second, 2)
    before = objects()
    with pytest.raises(StoreError, match=r"attempt 2 of s3://results/.* follows 1$"), orphan:
        record_epochs(orphan, 2)
    assert objects() == before
    second.finish("finished")
    pull.fetch(on("a"))
    assert state_of(orphan.folder) == "finished"


def test_a_writer_without_local_checkpoints_leaves_them_in_the_store(on, objects):
    writer = RunWriter.create(on("a"), spec(epochs=EPOCHS))
    record_epochs(writer, 1, 2)
    writer.close()
    other = on("b") / "runs" / writer.run_id
    with pytest.raises(StoreError, match="only a run can be resumed"):
        RunWriter.amend(other.with_name("another-1"))
    RunWriter.amend(other).finish("interrupted")
    assert checkpoints(names_in(other)) == []
    assert checkpoints(objects()) == ["epoch-0001", "epoch-0002"]


def test_a_failed_upload_is_repeated_when_the_run_is_resumed_on_its_machine(on, store, objects, tmp_path):
    local = on("a")
    writer = RunWriter.create(local, spec(epochs=EPOCHS))
    record_epochs(writer, 1)
    before = objects()
    record_epochs(writer, 2)
    writer.close()
    store.put(tmp_path.name, before)  # as if the uploads of epoch 2 had failed
    folder = local / "runs" / writer.run_id
    pull.fetch(local)
    assert read_runs(local)["epochs_done"].to_pylist() == [2]
    assert checkpoints(objects()) == ["epoch-0001", "epoch-0002"]
    shutil.rmtree(folder / "checkpoints")
    store.put(tmp_path.name, objects() | {name: before[name] for name in before if name.endswith("run.parquet")})
    pull.fetch(folder, checkpoints=True)
    assert checkpoints(names_in(folder)) == ["epoch-0001", "epoch-0002"], "a record that is further along may lack them"


def test_a_locked_record_is_left_alone_and_one_deleted_from_the_store_is_removed(on, store, objects, tmp_path):
    local = on("a")
    locked, deleted = (RunWriter.create(local, spec(epochs=EPOCHS, seed=seed)) for seed in (1, 2))
    for writer in (locked, deleted):
        record_epochs(writer, 1)
    deleted.close()
    store.put(tmp_path.name, {})
    pull.fetch(local)
    assert read_runs(local)["run_id"].to_pylist() == [locked.run_id]
    locked.close()
    pull.fetch(local)
    assert read_runs(local).num_rows == 0


def test_a_sweep_is_fetched_with_its_runs_and_its_report_is_uploaded_into_it(on, uri, objects):
    local = on("a")
    sweep = SweepWriter.create(local, "s", SweepSpec(), objective="o", mode="max", trials_planned=1)
    with RunWriter.begin(sweep.folder, f"{sweep.sweep_id}-0000-r0", spec(epochs=1)) as writer:
        record_epochs(writer, 1)
        writer.finish("finished")
    sweep.finish("finished")

    on("b")
    other = pull.pull_replica(Uri(uri.below(f"sweeps/{sweep.sweep_id}")))
    assert read_sweeps(other)["state"].to_pylist() == ["finished"]
    assert read_runs(other)["run_id"].to_pylist() == [writer.run_id]
    (other / "report").mkdir()
    (other / "report" / "page.html").write_bytes(b"page")
    pull.push([other / "report" / "page.html"])
    assert objects()[f"sweeps/{sweep.sweep_id}/report/page.html"] == b"page"

    pull.remove([local / "sweeps" / sweep.sweep_id / "runs" / writer.run_id / "checkpoints"] if on("a") else [])
    assert checkpoints(objects()) == []


def test_a_folder_outside_of_replicas_is_not_synchronised(tmp_path):
    with RunWriter.create(tmp_path, spec(epochs=EPOCHS)) as writer:
        record_epochs(writer, 1, 2)
        writer.finish("finished")
    pull.fetch(tmp_path)
    assert pull.display_path(writer.folder) == str(writer.folder)
    assert checkpoints(names_in(tmp_path)) == ["epoch-0001", "epoch-0002"]


def test_readers_and_writers_do_not_wait_for_each_other(on):
    with RunWriter.create(on("a"), spec()) as writer, FolderLock(writer.folder, name="another"):
        record_epochs(writer, 1)
        pull.fetch(writer.folder)
        record_epochs(writer, 2)
    assert read_runs(writer.folder)["epochs_done"].to_pylist() == [2]


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ("s3://key:secret@results/x", "the URI of bucket results does"),
        ("s3:///x?region=us-east-1", "s3://bucket/prefix"),
        ("s3://results/x?endpoint=127.0.0.1", "Unexpected query parameter in S3 URI: 'endpoint'"),
        ("hdfs://results/x", "a remote store must be S3-compatible, as s3://bucket/prefix, but got hdfs://results/x"),
    ],
)
def test_an_invalid_uri_is_refused(given, rule, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(StoreError, match=rule) as refused:
        open_results(Environment(store=Uri(given)).on_this_node())
    assert "secret" not in str(refused.value)
    assert not caches("stores").exists()


def test_a_missing_bucket_is_refused(store, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    nowhere = Uri(store.uri("x", bucket="nowhere"))
    with pytest.raises(StoreError, match="there is no bucket nowhere"):
        open_results(Environment(store=nowhere).on_this_node())
    assert not replica_folder(nowhere).exists()


@pytest.mark.parametrize("named", ["", "cifar-100-python.tar.gz"])
def test_data_are_fetched_once_and_verified_at_each_use(named, store, uri, on, tmp_path):
    on("a")
    archive = tar_of({f"cifar-100-python/{name}": _pickled(value) for name, value in contents().items()})
    store.put(tmp_path.name, {"cifar-100-python.tar.gz": archive})
    data = Uri(uri.below(named))
    right = DataSpec(source="cifar", checksum=f"sha256:{hashlib.sha256(archive).hexdigest()}")
    assert len(load_dataset(right, Environment(data=data)).train) == 12
    (copy,) = caches("data").rglob("*.tar.gz")
    before = copy.stat().st_mtime_ns
    assert len(load_dataset(right, Environment(data=data)).train) == 12
    assert copy.stat().st_mtime_ns == before
    with pytest.raises(DataError, match="must have the checksum"):
        load_dataset(DataSpec(source="cifar", checksum=f"sha256:{'0' * 64}"), Environment(data=data))
    store.put(tmp_path.name, {"cifar-100-python.tar.gz": archive[:-1]})
    with pytest.raises(DataError, match="must have the checksum"):
        load_dataset(right, Environment(data=data))
    store.put(tmp_path.name, {})
    with pytest.raises(DataError, match="data in a store must be an archive"):
        load_dataset(right, Environment(data=data))
    with pytest.raises(DataError, match="--download requires --data with a folder"):
        load_dataset(right, Environment(data=data, download=True))


def _pickled(value):
    import pickle

    return pickle.dumps(value, 2)
