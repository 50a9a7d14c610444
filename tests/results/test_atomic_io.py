import subprocess
import sys
import textwrap

import pytest

from mcl_ray.errors import StoreError
from mcl_ray.results.atomic_io import (
    FolderLock,
    claim_folder,
    ensure_writable,
    is_locked,
    write_atomically,
    write_folder,
)


def python(code, argument):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(argument)], capture_output=True, text=True, check=False
    )


def test_a_write_that_fails_half_way_keeps_the_old_file_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fails(file) -> None:
        file.write(b"half")
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        write_atomically(path, fails)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_written_completely_or_not_at_all(tmp_path):
    def fails(file) -> None:
        file.write(b"half")
        raise ValueError("on purpose")

    folder = tmp_path / "far" / "below"
    with pytest.raises(ValueError, match="on purpose"):
        write_folder(folder, {"first": b"1", "second": fails})
    assert list(tmp_path.iterdir()) == []
    folder.mkdir(parents=True)
    assert write_folder(folder, {"first": b"1", "second": b"2"}) == [folder / "first", folder / "second"]
    with pytest.raises(StoreError, match=r"creating .*below failed: Directory not empty"):
        write_folder(folder, {"first": b"3"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"first": b"1", "second": b"2"}
    assert [path.name for path in folder.parent.iterdir()] == ["below"]


def test_a_full_disk_keeps_the_old_file_and_raises(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, b"old")
    answer = python(
        """
        import resource, signal, sys
        from pathlib import Path
        from mcl_ray.errors import StoreError
        from mcl_ray.results.atomic_io import write_atomically
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_atomically(Path(sys.argv[1]), b"x" * 100_000)
        except StoreError as error:
            print(error)
        """,
        path,
    )
    assert "must be writable" in answer.stdout, answer.stderr
    assert "File too large" in answer.stdout
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_cannot_be_created_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match=r"must be writable, but .*file/inside"):
        ensure_writable(tmp_path / "file" / "inside")


def test_serials_are_never_given_twice(tmp_path):
    names = [claim_folder(tmp_path, "run-abc", 1).name for _ in range(3)]
    assert names == ["run-abc-1", "run-abc-2", "run-abc-3"]


def test_a_lock_has_one_holder_and_is_free_after_it(tmp_path):
    with FolderLock(tmp_path):
        assert is_locked(tmp_path)
        with pytest.raises(StoreError, match="one writer at a time"):
            FolderLock(tmp_path, wait_s=0).acquire()
    assert not is_locked(tmp_path)
    with FolderLock(tmp_path):
        pass
