import dataclasses
import hashlib
import io
import pickle

import pytest
import torch

from mcl_ray.errors import CheckpointError
from mcl_ray.training.checkpoint import Checkpoint, CheckpointFolder, check_belongs, read_checkpoint


def checkpoint(epoch):
    return Checkpoint(
        epoch=epoch,
        digest="abc",
        architecture="resnet8 + resnet8",
        cohort={"weight": torch.full((3,), float(epoch))},
        optimizer={"state": {}},
        rows=[("mean", "test", "top1", 50.0)],
    )


@pytest.fixture
def folder(tmp_path):
    folder = CheckpointFolder(tmp_path / "checkpoints", kept=2)
    for epoch in (1, 2, 3):
        folder.save(checkpoint(epoch))
    return folder


def newest(folder):
    return max(folder.path.glob("*.pt"))


def test_the_newest_is_read_back_whole_and_older_ones_are_deleted(folder):
    found, file = folder.latest()
    assert torch.equal(found.cohort["weight"], torch.full((3,), 3.0))
    assert [tuple(row) for row in found.rows] == [("mean", "test", "top1", 50.0)]
    assert file == newest(folder)
    assert sorted(path.name[:10] for path in folder.path.iterdir()) == ["epoch-0002", "epoch-0003"]


@pytest.mark.parametrize("damage", [lambda b: b[:-7], lambda b: b[:100] + bytes([b[100] ^ 1]) + b[101:], lambda _: b""])
def test_a_damaged_one_falls_back_to_the_one_before_and_says_so(folder, damage, caplog):
    file = newest(folder)
    file.write_bytes(damage(file.read_bytes()))
    found, _ = folder.latest()
    assert found.epoch == 2
    assert "is damaged" in caplog.text
    assert "falling back to the previous checkpoint" in caplog.text


def test_all_damaged_is_an_error_not_a_fresh_start(folder):
    for file in folder.path.iterdir():
        file.write_bytes(b"x")
    with pytest.raises(CheckpointError, match="all 2 in .* are damaged"):
        folder.latest()


def test_none_is_none(tmp_path):
    assert CheckpointFolder(tmp_path / "never").latest() is None


def test_a_hostile_pickle_is_not_run(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    content = pickle.dumps(Hostile())
    file = tmp_path / f"epoch-0001-{hashlib.sha256(content).hexdigest()[:16]}.pt"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match="not a checkpoint of this program"):
        read_checkpoint(file)
    assert not (tmp_path / "owned").exists()


def test_a_newer_format_is_refused(tmp_path):
    buffer = io.BytesIO()
    torch.save(dataclasses.asdict(checkpoint(1)) | {"format": 3}, buffer)
    file = tmp_path / f"epoch-0001-{hashlib.sha256(buffer.getvalue()).hexdigest()[:16]}.pt"
    file.write_bytes(buffer.getvalue())
    with pytest.raises(CheckpointError, match="`format <= 2` must hold for a checkpoint, but .* has format 3"):
        read_checkpoint(file)


def test_an_older_format_is_read(tmp_path):
    """Format 1 knew of no method that remembers."""
    content = {name: value for name, value in dataclasses.asdict(checkpoint(1)).items() if name != "method"}
    buffer = io.BytesIO()
    torch.save(content | {"format": 1}, buffer)
    file = tmp_path / f"epoch-0001-{hashlib.sha256(buffer.getvalue()).hexdigest()[:16]}.pt"
    file.write_bytes(buffer.getvalue())
    assert read_checkpoint(file).method == {}


@pytest.mark.parametrize(
    ("digest", "architecture", "rule"),
    [("abc", "wrn_16_2 + wrn_16_2", "of another architecture"), ("def", "resnet8 + resnet8", "this run has def")],
)
def test_a_checkpoint_of_another_run_is_refused(folder, digest, architecture, rule):
    found, file = folder.latest()
    with pytest.raises(CheckpointError, match=rule):
        check_belongs(found, file, digests=(digest,), architecture=architecture)
