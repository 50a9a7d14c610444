"""A forked process is, for who starts it and for its program, what an interpreter of its own would be."""

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.support import forked
from tests.support.commands import HANGS_AFTER_S
from tests.support.forked import MAX_SERVERS, ForkedProcess, run

LIGHT = ("json",)
REPORTING = """
import json, os, signal, sys
report = {
    "arguments": sys.argv, "path": sys.path, "name": __name__, "file": __file__,
    "main": sys.modules["__main__"].__file__, "folder": os.getcwd(), "environment": dict(os.environ),
    "parent": os.getppid(), "group": os.getpgid(0) == os.getpid(),
    "session": os.getsid(0) == os.getpid(), "open": sorted(os.listdir("/proc/self/fd"))[:-1],
    "handlers": [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), "umask": os.umask(0), "read": sys.stdin.read(),
    "streams": [[one.encoding, one.errors, one.line_buffering] for one in (sys.stdin, sys.stdout, sys.stderr)],
}
print(json.dumps(report))
print("an error", file=sys.stderr)
"""
STARTS = {"forked": lambda *words, **options: ForkedProcess(*words, modules=LIGHT, **options), "own": subprocess.Popen}


@pytest.fixture
def program(tmp_path):
    """Write a program, and return how it is called: as a module and as a file."""

    def write(text):
        (tmp_path / "program.py").write_text(text)
        return [[sys.executable, "-m", "program"], [sys.executable, str(tmp_path / "program.py")]]

    return write


@pytest.mark.parametrize("as_file", [False, True])
@pytest.mark.parametrize("apart", [{}, {"start_new_session": True}, {"process_group": 0}], ids=str)
def test_a_program_sees_what_it_would_in_an_interpreter_of_its_own(program, tmp_path, as_file, apart):
    command, reports = [*program(REPORTING)[as_file], "a b", "--c"], {}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    options = {"cwd": tmp_path, "env": os.environ | {"XDG_CACHE_HOME": "here"}, **apart}
    for name, start in STARTS.items():
        with start(command, text=True, **options, **pipes) as process:
            output, errors = process.communicate("what is read", timeout=HANGS_AFTER_S)
        reports[name] = [process.returncode, errors, json.loads(output)]
    assert reports["forked"] == reports["own"]
    assert reports["own"][2]["parent"] == os.getpid()


@pytest.mark.parametrize(
    "end",
    [
        *("pass", "sys.exit(3)", "sys.exit('why')", "1 / 0", "os._exit(5)", "os.kill(os.getpid(), 9)"),
        *("os.kill(os.getpid(), 15)", "import atexit; atexit.register(print, 'last')", "raise KeyboardInterrupt"),
        "import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()",
    ],
)
def test_it_ends_as_it_would(program, tmp_path, end):
    command, ended = program(f"import os, sys\nprint('so far', flush=True)\n{end}")[0], {}
    for name, start in STARTS.items():
        with start(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            output, errors = process.communicate(timeout=HANGS_AFTER_S)
        ended[name] = [process.returncode, output, errors.splitlines()[-1:]]
    assert ended["forked"] == ended["own"]


def test_a_signal_reaches_it(program, tmp_path):
    command = program("import time\nprint('ready', flush=True)\ntime.sleep(600)")[0]
    with ForkedProcess(command, LIGHT, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout.readline() == b"ready\n"
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(HANGS_AFTER_S) == -signal.SIGINT


def test_what_is_imported_is_listed_and_what_was_imported_before(program, tmp_path):
    (python, *words), _ = program("import sys, wave")
    listing = [python, "-X", "importtime", *words]
    done = run(listing, LIGHT, timeout=HANGS_AFTER_S, cwd=tmp_path)
    listed = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert {"json", "wave"} <= listed
    assert "torch" not in listed


@pytest.mark.slow
def test_two_of_them_draw_different_numbers(program, tmp_path):
    """Ray gives its processes ids of which none may come twice."""
    draws = "import random, ray, tempfile, numpy; print(random.random(), numpy.random.random(), tempfile.mktemp(), "
    command = program(f"{draws}ray.WorkerID.from_random().hex(), ray.ObjectID.from_random().hex(), sep='\\n')")[0]
    modules = ("tests.support.ray_ids", "ray.tune")
    first, second = (run(command, modules, timeout=HANGS_AFTER_S, cwd=tmp_path).stdout.split() for _ in range(2))
    assert len(first) == len(second) == 5
    assert set(first).isdisjoint(second)


def test_a_module_that_cannot_be_imported_is_named(program, tmp_path):
    with pytest.raises(AssertionError, match="No module named 'nowhere'"):
        run(program("")[0], ("nowhere",), timeout=HANGS_AFTER_S, cwd=tmp_path)


def test_few_servers_are_kept_and_what_they_forked_lives_on(program, tmp_path):
    command = program("import sys\nprint('ready', flush=True)\nprint(sys.stdin.read())")[0]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with ForkedProcess(command, LIGHT, cwd=tmp_path, text=True, **pipes) as first:
        assert first.stdout.readline() == "ready\n"
        for number in range(MAX_SERVERS):
            run(
                program("")[0], LIGHT, timeout=HANGS_AFTER_S, cwd=tmp_path, env=os.environ | {"MCL_NUMBER": str(number)}
            )
        assert len(forked._servers) == MAX_SERVERS
        assert not any("MCL_NUMBER" not in dict(variables) for _, _, variables in forked._servers)
        assert first.communicate("still there", timeout=HANGS_AFTER_S)[0] == "still there\n"
        assert first.returncode == 0
