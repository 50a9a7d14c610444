"""Images that are read as they are wanted: the same whoever reads them, and none lost but those that do not decode."""

import io
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mcl_ray.config.environment import Environment
from mcl_ray.config.overrides import parse, replace
from mcl_ray.config.recipes import imagenet
from mcl_ray.config.spec import RunSpec
from mcl_ray.data.source import dataset_for, load_dataset
from mcl_ray.data.views import decode
from mcl_ray.distributed import SINGLE_SHARD, BatchShards, is_rank_zero
from mcl_ray.errors import UnreadableImagesError
from mcl_ray.training.loaders import build_loaders
from mcl_ray.training.loop import iter_epochs
from tests.support.pictures import picture, write_folder
from tests.support.running_command import TIMEOUT_S, RunningCommand, descendants, send
from tests.support.workers import some_workers

CPU = torch.device("cpu")
INDICES = np.array([[0, 9, 17, 3], [22, 5, 1, 12], [6, 6, 20, 14]])


def feeds_of(root, results, readers=0, **fields):
    fields = {"data.image_size": 16, "batch.size": 4, "bank.negatives": 8} | fields
    spec, local = replace(imagenet(), fields), Environment(data=root, results=results, readers=readers)
    dataset = load_dataset(spec.data, local)
    return build_loaders(spec, dataset, local, CPU), dataset


def is_alive(pid):
    return bool(descendants(pid, ""))


def drawn(feeds, epoch=0, seed=0, indices=INDICES, shares=SINGLE_SHARD):
    return list(feeds["train"].training(indices, seed, epoch, shares))


def same(first, second):
    assert len(first) == len(second)
    return all(
        torch.equal(a.images, b.images) and torch.equal(a.indices, b.indices)
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.slow
def test_views_come_of_seed_and_epoch_alone_however_many_readers_there_are(tmp_path):
    root = write_folder(tmp_path / "pictures")
    local, _ = feeds_of(root, tmp_path)
    views = drawn(local)
    assert [fed.indices.tolist() for fed in views] == INDICES.tolist()
    assert views[0].images.shape == (4, 3, 16, 16)
    assert same(views, drawn(local))
    assert not same(views, drawn(local, epoch=1))
    assert not same(views, drawn(local, seed=1))
    assert not torch.equal(views[2].images[0], views[2].images[1]), "the same image twice is two views"
    elsewhere, _ = feeds_of(root, tmp_path, readers=2)
    assert same(views, drawn(elsewhere))
    assert same(views, drawn(elsewhere)), "the readers serve a second epoch"


@pytest.mark.slow
def test_readers_end_with_the_process_that_trains_though_it_is_killed(tmp_path):
    words = ("networks=resnet8", "image_size=16", "batch.size=6", "negatives=8", "epochs=1000", "--readers", "2")
    data = str(write_folder(tmp_path / "pictures"))
    running = RunningCommand(tmp_path / "results", "imagenet", *words, "--data", data, command="train")
    readers = list[int]()
    try:
        running.until("epoch 1/")
        readers = descendants(running.process.pid, "forkserver")
        assert len(readers) == 3, "two, and the one that starts them"
        running.process.kill()
        running.process.wait()
        deadline = time.monotonic() + TIMEOUT_S
        while any(map(is_alive, readers)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(map(is_alive, readers))
    finally:
        send(readers, signal.SIGKILL)
        running.close()


def test_reading_leaves_the_generator_of_the_weights_alone(tmp_path):
    feeds, _ = feeds_of(write_folder(tmp_path / "pictures"), tmp_path)
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    drawn(feeds)
    assert torch.equal(torch.rand(3), want)


def test_each_worker_reads_its_part_of_the_same_views(tmp_path, monkeypatch):
    from mcl_ray import distributed

    feeds, _ = feeds_of(write_folder(tmp_path / "pictures"), tmp_path)
    whole, parts = drawn(feeds), []
    for rank, part in enumerate((INDICES[:, :3], INDICES[:, 3:])):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(drawn(feeds, indices=part, shares=BatchShards((3, 1))))
    for fed, first, second in zip(whole, *parts, strict=True):
        assert torch.equal(fed.images, torch.cat([first.images, second.images]))


def test_images_are_scored_whole_and_in_order(tmp_path):
    feeds, dataset = feeds_of(write_folder(tmp_path / "pictures", side=48), tmp_path)
    fed = list(feeds["test"].scoring([slice(0, 5), slice(5, 12)]))
    assert torch.cat([one.indices for one in fed]).tolist() == list(range(12))
    pixels = decode(dataset.test.read(0)).float() / 255
    got = fed[0].images[0] * torch.tensor(dataset.std)[:, None, None] + torch.tensor(dataset.mean)[:, None, None]
    torch.testing.assert_close(got.mean((1, 2)), pixels[:, 6:-6, 6:-6].mean((1, 2)), atol=0.02, rtol=0)


def test_an_image_that_does_not_decode_is_named_and_another_of_its_class_comes_in_its_place(tmp_path, caplog):
    root = write_folder(tmp_path / "pictures")
    feeds, dataset = feeds_of(root, tmp_path, **{"data.normalisation": "imagenet"})
    broken = dataset.train.name(9)
    Path(broken).write_bytes(picture("green", 1)[:40])
    with caplog.at_level(logging.WARNING):
        views = [*drawn(feeds), *drawn(feeds, epoch=1)]
    assert [fed.indices.tolist() for fed in views[:3]] == [[0, 10, 17, 3], *INDICES[1:].tolist()]
    (reported,) = [record.getMessage() for record in caplog.records]
    assert broken in reported


def test_of_the_images_that_are_scored_one_that_does_not_decode_is_left_out(tmp_path):
    root = write_folder(tmp_path / "pictures")
    feeds, dataset = feeds_of(root, tmp_path)
    Path(dataset.test.name(2)).write_bytes(b"")
    (fed,) = feeds["test"].scoring([slice(0, 4)])
    assert fed.indices.tolist() == [0, 1, 3]
    assert len(fed.images) == 3


def met(spec, root):
    """Names of the images that did not decode after each epoch of a run, or what ended it."""
    local = Environment(data=root, results=root.parent / "results", readers=0)
    checkpoints = root.parent / spec.digest if is_rank_zero() else None
    try:
        return [epoch.unreadable for epoch in iter_epochs(spec, dataset_for(spec, local), local, checkpoints)]
    except UnreadableImagesError as error:
        return str(error)


@pytest.mark.slow
def test_the_bound_is_of_all_workers_and_each_knows_every_name(tmp_path):
    root = write_folder(tmp_path / "pictures")
    broken = sorted(str(root / "train" / name / file) for name in ("red", "blue") for file in ("0.png", "2.png"))
    for file in broken:
        Path(file).write_bytes(b"not an image")
    words = ["networks=resnet8", "image_size=16", "batch.size=6", "negatives=8", "epochs=1", "normalisation=imagenet"]
    spec = replace(imagenet(), parse(RunSpec, [*words, "milestones=[]", "schedule.kind=cosine"]))
    with some_workers(tmp_path, 2) as pair:
        assert pair.run(met, spec, root) == [[tuple(broken)]] * 2
        reported = pair.run(met, replace(spec, {"data.unreadable": 3, "seed": 1}), root)
    assert reported[0] == reported[1]
    assert "got 3 and 4" in reported[0]


@pytest.mark.slow
@pytest.mark.parametrize("readers", [0, 1])
def test_more_of_them_than_the_bound_end_the_run_with_their_names(tmp_path, readers):
    root = write_folder(tmp_path / "pictures")
    feeds, dataset = feeds_of(root, tmp_path, readers, **{"data.unreadable": 1, "data.normalisation": "imagenet"})
    names = [dataset.train.name(index) for index in (0, 9)]
    for name in names:
        Path(name).write_bytes(b"not an image")
    with pytest.raises(UnreadableImagesError, match=r"`data.unreadable >= images .* got 1 and 2") as raised:
        drawn(feeds)
    assert all(name in str(raised.value) for name in names)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
        *(("TIFF", mode) for mode in ("1", "CMYK")),
        ("WEBP", "RGBA"),
        ("BMP", "P"),
        ("GIF", "P"),
    ],
)
def test_whatever_pillow_reads_becomes_red_green_and_blue(kind, mode):
    content = io.BytesIO()
    Image.new(mode, (6, 5), 1).save(content, kind)
    decoded = decode(content.getvalue())
    assert (decoded.shape, decoded.dtype) == ((3, 5, 6), torch.uint8)


READER = """
import multiprocessing, os, socket
from multiprocessing.resource_sharer import DupFd
from mcl_ray.training.streaming import prepare_reader

def read():
    prepare_reader(0)
    handed_over = DupFd(0)
    with socket.socket(socket.AF_UNIX) as interrupted:
        interrupted.connect(handed_over._id[0])
    os.close(handed_over.detach())  # of the next one that asks

if __name__ == "__main__":
    reader = multiprocessing.get_context("spawn").Process(target=read)
    reader.start()
    reader.join()
    print(reader.exitcode)
"""


@pytest.mark.slow
def test_a_reader_says_nothing_of_a_training_process_that_was_interrupted_while_it_took_a_batch(tmp_path):
    (tmp_path / "reader.py").write_text(READER)
    done = subprocess.run([sys.executable, "reader.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0\n", "")
