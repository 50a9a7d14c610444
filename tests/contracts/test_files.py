"""The contract of the files below a results root: one of many writers creates a file; no reader sees a part of one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mcl_ray.jobs.files import Files, files_below
from mcl_ray.object_store import Uri
from tests.support.s3 import serving

LARGE = b"0123456789" * 100_000


class FilesContract:
    """Tests of files; the fixture `files` has them below an empty root."""

    def test_a_file_is_created_once(self, files: Files) -> None:
        with ThreadPoolExecutor(16) as pool:
            created = list(pool.map(lambda number: files.create("a/b/claim", str(number).encode()), range(64)))
        assert sum(created) == 1
        assert files.read("a/b/claim").decode() == str(created.index(True))

    def test_a_file_is_replaced_and_read_in_parts(self, files: Files) -> None:
        files.write("a/log", b"short")
        files.write("a/log", LARGE)
        found = files.open("a/log")
        assert found.size == files.size("a/log") == len(LARGE)
        assert b"".join(found.chunks) == files.read("a/log") == LARGE
        assert files.part("a/log", len(LARGE) - 3, 3) == b"789"

    def test_what_is_missing(self, files: Files) -> None:
        files.write("a/log", b"")
        assert files.size("a/log") == 0
        assert files.size("a/none") is None
        assert files.size("none/none") is None
        for name in ("a/none", "none/none", "a/log/none", "a"):
            with pytest.raises(FileNotFoundError):
                files.open(name)
        assert files.newest("none", "report.html") is None

    def test_the_newest_file_of_a_name(self, files: Files) -> None:
        for number, name in enumerate(("a/one/report/report.html", "a/deep/er/report/report.html", "a/x-report.html")):
            files.write(name, str(number).encode())
        assert files.newest("a", "report/report.html") == "a/deep/er/report/report.html"
        time.sleep(1.1)  # S3 lists times in seconds
        files.write("a/one/report/report.html", b"again")
        assert files.newest("a", "report/report.html") == "a/one/report/report.html"


class TestFilesInAFolder(FilesContract):
    @pytest.fixture
    def files(self, tmp_path: Path) -> Files:
        return files_below(tmp_path / "results")

    def test_no_file_has_a_name_that_is_impossible(self, files: Files) -> None:
        files.write("a/log", b"")
        for name in ("a/" + 300 * "x", "a/\0"):
            assert files.size(name) is None
            with pytest.raises(FileNotFoundError):
                files.open(name)

    def test_nothing_else_is_left(self, files: Files, tmp_path: Path) -> None:
        files.create("claim", b"1")
        files.create("claim", b"2")
        files.write("claim", b"3")
        assert [path.name for path in (tmp_path / "results").iterdir()] == ["claim"]


class TestFilesInAStore(FilesContract):
    @pytest.fixture
    def files(self) -> Iterator[Files]:
        with serving() as store:
            yield files_below(Uri(store.uri("service")))
