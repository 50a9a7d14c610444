"""The benchmark of commits times a command to its end, or until it has written a file."""

import subprocess
from pathlib import Path

import pytest

from benchmarks.commits import CHECKOUT, run

WRITES = "import sys; from pathlib import Path; Path(sys.argv[1], 'first').touch(); Path(sys.argv[2]).touch()"


def test_a_command_goes_on_to_its_end_after_the_file_that_ends_its_time(tmp_path):
    last = tmp_path / "last"
    times = run(CHECKOUT, ["-c", WRITES, "{out}", str(last)], until="fir*")
    assert last.exists()
    assert times.wall > 0


@pytest.mark.parametrize(("program", "until"), [("raise SystemExit(3)", None), ("pass", "fir*"), ("exit(3)", "fir*")])
def test_a_command_that_fails_or_writes_no_such_file_is_an_error(program, until):
    with pytest.raises(subprocess.CalledProcessError):
        run(Path.cwd(), ["-c", program], until=until)
