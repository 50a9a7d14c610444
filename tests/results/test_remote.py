"""A store that speaks S3, and two machines with nothing but it in common: what each writes, the other reads."""

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
from tests.support.synthetic import SweepSpec, epoch_rows, spec

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
    """Name → content of what the store has."""
    return lambda: store.objects(tmp_path.name)


@pytest.fixture
def on(uri, tmp_path, monkeypatch):
    """`on("a")` makes this process one of machine a; it returns the results folder there."""

    def machine(name):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        environment = Environment(store=uri).here()
        open_results(environment)
        return environment.results

    return machine


def checkpoint(folder, epoch):
    """As the training loop leaves it: named by its content, the one before the last gone."""
    content = b"weights %d" % epoch
    folder.mkdir(exist_ok=True)
    (folder / f"epoch-{epoch:04d}-{hashlib.sha256(content).hexdigest()[:16]}.pt").write_bytes(content)
    for old in sorted(folder.glob("*.pt"))[:-2]:
        old.unlink()


def train(writer, *epochs):
    for epoch in epochs:
        checkpoint(writer.checkpoints, epoch)
        writer.record_epoch(epoch, epoch_rows(epoch, 2, 60))


def checkpoints(names):
    return sorted(name.split("/")[-1][:10] for name in names if "/checkpoints/" in f"/{name}")


def names_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_is_read_on_another_machine(on, objects):
    here = on("a")
    with RunWriter.create(here, spec(epochs=EPOCHS)) as writer:
        train(writer, *range(1, EPOCHS + 1))
        writer.finish("finished")
    runs, figures = read_runs(here), read_epochs(here)
    assert checkpoints(objects()) == ["epoch-0003", "epoch-0004"]
    assert checkpoints(names_in(here)) == [], "whoever needs them fetches them"

    there = on("b")
    assert there != here
    pull.fetch(there)
    assert (read_runs(there), read_epochs(there)) == (runs, figures)
    assert checkpoints(names_in(there)) == []
    pull.fetch(there / "runs" / writer.run_id, checkpoints=True)
    assert checkpoints(names_in(there)) == ["epoch-0003", "epoch-0004"]
    assert not any("lock" in name or "tmp" in name or "store" in name for name in objects())


def test_every_epoch_is_in_the_store_when_it_is_on_record(on, objects):
    writer = RunWriter.create(on("a"), spec(epochs=EPOCHS))
    for epoch in range(1, EPOCHS + 1):
        train(writer, epoch)
        assert checkpoints(objects())[-1] == f"epoch-{epoch:04d}"
        there = on("b")
        pull.fetch(there)
        assert read_runs(there)["epochs_done"].to_pylist() == [epoch]
        assert max(read_epochs(there)["epoch"].to_pylist()) == epoch
        on("a")
    writer.close()


def test_the_row_is_sent_last(on, monkeypatch):
    writer, sent = RunWriter.create(on("a"), spec(epochs=EPOCHS)), []
    write = Remote.write
    monkeypatch.setattr(
        Remote, "write", lambda remote, name, content: (sent.append(name), write(remote, name, content))
    )
    train(writer, 1)
    writer.close()
    assert [name.split("/")[2] for name in sent] == ["checkpoints", "epochs-a0001.parquet", "run.parquet"]


def test_a_run_goes_on_elsewhere_and_then_here_again(on, objects):
    writer = RunWriter.create(on("a"), spec(epochs=EPOCHS))
    train(writer, 1, 2)
    writer.close()  # as if it was killed
    checkpoint(writer.checkpoints, 3)  # and that was all it could still do

    there = on("b")
    with RunWriter.begin(there, writer.run_id, spec(epochs=EPOCHS)) as second:
        assert checkpoints(names_in(second.folder)) == ["epoch-0001", "epoch-0002"]
        train(second, 3)
    with RunWriter.begin(on("a"), writer.run_id, spec(epochs=EPOCHS)) as third:
        assert (third.attempt, checkpoints(names_in(third.folder))) == (3, ["epoch-0002", "epoch-0003"])
        train(third, 4)
        third.finish("finished")
    assert checkpoints(objects()) == ["epoch-0003", "epoch-0004"]
    pull.fetch(on("b"))
    assert state_of(there / "runs" / writer.run_id) == "finished"
    assert sorted(set(read_epochs(there)["epoch"].to_pylist())) == [1, 2, 3, 4]


def test_a_writer_whose_run_goes_on_elsewhere_ends(on, objects):
    orphan = RunWriter.create(on("a"), spec(epochs=EPOCHS))
    train(orphan, 1)
    second = RunWriter.begin(on("b"), orphan.run_id, spec(epochs=EPOCHS))
    train(second, 2)
    before = objects()
    with pytest.raises(StoreError, match=r"attempt 2 of s3://results/.* follows 1$"), orphan:
        train(orphan, 2)
    assert objects() == before
    second.finish("finished")
    pull.fetch(on("a"))
    assert state_of(orphan.folder) == "finished"


def test_whoever_has_no_checkpoints_leaves_them_in_the_store(on, objects):
    writer = RunWriter.create(on("a"), spec(epochs=EPOCHS))
    train(writer, 1, 2)
    writer.close()
    there = on("b") / "runs" / writer.run_id
    with pytest.raises(StoreError, match="only a run can be resumed"):
        RunWriter.amend(there.with_name("another-1"))
    RunWriter.amend(there).finish("interrupted")
    assert checkpoints(names_in(there)) == []
    assert checkpoints(objects()) == ["epoch-0001", "epoch-0002"]


def test_what_could_not_be_sent_is_sent_when_the_run_goes_on_here(on, store, objects, tmp_path):
    here = on("a")
    writer = RunWriter.create(here, spec(epochs=EPOCHS))
    train(writer, 1)
    before = objects()
    train(writer, 2)
    writer.close()
    store.put(tmp_path.name, before)  # what happens to pushes that fail
    folder = here / "runs" / writer.run_id
    pull.fetch(here)
    assert read_runs(here)["epochs_done"].to_pylist() == [2]
    assert checkpoints(objects()) == ["epoch-0001", "epoch-0002"]
    shutil.rmtree(folder / "checkpoints")
    store.put(tmp_path.name, objects() | {name: before[name] for name in before if name.endswith("run.parquet")})
    pull.fetch(folder, checkpoints=True)
    assert checkpoints(names_in(folder)) == ["epoch-0001", "epoch-0002"], "a record that is further may lack them"


def test_what_somebody_writes_here_is_left_alone_and_what_the_store_lost_is_forgotten(on, store, objects, tmp_path):
    here = on("a")
    kept, lost = (RunWriter.create(here, spec(epochs=EPOCHS, seed=seed)) for seed in (1, 2))
    for writer in (kept, lost):
        train(writer, 1)
    lost.close()
    store.put(tmp_path.name, {})
    pull.fetch(here)
    assert read_runs(here)["run_id"].to_pylist() == [kept.run_id]
    kept.close()
    pull.fetch(here)
    assert read_runs(here).num_rows == 0


def test_two_machines_name_their_runs_and_sweeps_differently(on):
    ids = []
    for machine in ("a", "b"):
        here = on(machine)
        with RunWriter.create(here, spec()) as writer:
            writer.finish("finished")
        sweep = SweepWriter.create(here, "s", SweepSpec(), objective="o", mode="max", trials_planned=1)
        ids.append((writer.run_id, sweep.sweep_id))
        sweep.finish("finished")
    assert [run_id[-2:] for run_id, _ in ids] == ["-1", "-2"]
    assert [sweep_id[-2:] for _, sweep_id in ids] == ["-1", "-2"]


def test_a_sweep_has_its_runs_and_a_report_of_it_alone_goes_to_its_place(on, uri, objects):
    here = on("a")
    sweep = SweepWriter.create(here, "s", SweepSpec(), objective="o", mode="max", trials_planned=1)
    with RunWriter.begin(sweep.folder, f"{sweep.sweep_id}-0000-r0", spec(epochs=1)) as writer:
        train(writer, 1)
        writer.finish("finished")
    sweep.finish("finished")

    on("b")
    there = pull.pull_replica(Uri(uri.below(f"sweeps/{sweep.sweep_id}")))
    assert read_sweeps(there)["state"].to_pylist() == ["finished"]
    assert read_runs(there)["run_id"].to_pylist() == [writer.run_id]
    (there / "report").mkdir()
    (there / "report" / "page.html").write_bytes(b"page")
    pull.push([there / "report" / "page.html"])
    assert objects()[f"sweeps/{sweep.sweep_id}/report/page.html"] == b"page"

    pull.remove([here / "sweeps" / sweep.sweep_id / "runs" / writer.run_id / "checkpoints"] if on("a") else [])
    assert checkpoints(objects()) == []


def test_a_folder_that_is_no_copy_is_only_a_folder(tmp_path):
    with RunWriter.create(tmp_path, spec(epochs=EPOCHS)) as writer:
        train(writer, 1, 2)
        writer.finish("finished")
    pull.fetch(tmp_path)
    assert pull.shown(writer.folder) == str(writer.folder)
    assert checkpoints(names_in(tmp_path)) == ["epoch-0001", "epoch-0002"]


def test_a_reader_waits_for_no_writer_and_a_writer_for_a_reader(on):
    with RunWriter.create(on("a"), spec()) as writer, FolderLock(writer.folder, name="another"):
        train(writer, 1)
        pull.fetch(writer.folder)
        train(writer, 2)
    assert read_runs(writer.folder)["epochs_done"].to_pylist() == [2]


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ("s3://key:secret@results/x", "the URI of bucket results has some"),
        ("s3:///x?region=us-east-1", "s3://bucket/prefix"),
        ("s3://results/x?endpoint=127.0.0.1", "Unexpected query parameter in S3 URI: 'endpoint'"),
        ("hdfs://results/x", "a remote store must be S3-compatible, as s3://bucket/prefix, but got hdfs://results/x"),
    ],
)
def test_a_uri_of_no_store(given, rule, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(StoreError, match=rule) as refused:
        open_results(Environment(store=Uri(given)).here())
    assert "secret" not in str(refused.value)
    assert not caches("stores").exists()


def test_a_bucket_that_is_not_there(store, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    nowhere = Uri(store.uri("x", bucket="nowhere"))
    with pytest.raises(StoreError, match="there is no bucket nowhere"):
        open_results(Environment(store=nowhere).here())
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
