"""Fixtures of all tests, folders of numbers and images beside the checkout, and the order in which tests begin."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded, here and below: tests run side by side
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # where there are two, one that waits leaves its core to others

# The list of fonts. Where a test has a cache of its own, matplotlib would make it anew, and say so on stderr if it took
# longer than five seconds.
os.environ.setdefault("MPLCONFIGDIR", os.path.expanduser("~/.cache/matplotlib"))  # noqa: PTH111

# The tests start hundreds of interpreters. Without this, each would compile the whole of our code again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import pytest

pytest_plugins = [
    "tests.support.data",
    "tests.support.old_code",
    "tests.support.own_parts",
    "tests.support.results",
    "tests.support.running_command",
    "tests.support.shared_ray",
]

# A shell that runs the tests in the background ignores Ctrl-C, nohup ignores SIGHUP, and so would every process that
# the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def pytest_sessionstart() -> None:
    """Make the list of fonts, before the processes that test side by side begin."""
    folder = Path(os.environ["MPLCONFIGDIR"])
    if "PYTEST_XDIST_WORKER" not in os.environ and not list(folder.glob("fontlist-*.json")):
        subprocess.run([sys.executable, "-c", "import matplotlib.font_manager"], check=False, capture_output=True)


def _shared_folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"needs the folder {folder} beside the checkout, but it is missing")
    return folder


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist's
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests that share a fixture of their module in one process, and begin with those that take long.

    Those that have a group already, as tests/api/conftest.py gives one, stay in that one alone. Those that are marked
    `alone` are skipped. The option `--no-loadscope-reorder` keeps pytest-xdist from beginning with the groups of most
    tests instead.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    groups: dict[pytest.Item, str] = {}
    for item in items:
        if item.get_closest_marker("alone"):
            item.add_marker(pytest.mark.skip(reason="needs the memory of the whole machine: pytest -n 0 -m alone"))
        fixtures = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
        if marked := item.get_closest_marker("xdist_group"):
            groups[item] = marked.args[0]
        elif any(definitions[-1].scope == "module" for definitions in fixtures.values()):
            groups[item] = item.nodeid.partition("::")[0]
            item.add_marker(pytest.mark.xdist_group(groups[item]))
    slow = {groups.get(item, item.nodeid) for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: groups.get(item, item.nodeid) not in slow)


def pytest_configure() -> None:
    """Collect garbage rarely while the modules of tests are imported; end a process of pytest-xdist at once.

    What such a process has imported and made is not destroyed object by object at its end, but functions of atexit are
    called: those that are registered later than this one, before it.
    """
    gc.set_threshold(50_000)
    if "PYTEST_XDIST_WORKER" in os.environ:
        atexit.register(os._exit, 0)


def pytest_collection_finish() -> None:
    """Have the garbage collector leave out what the modules of tests and their imports made, which stays anyway.

    Every full collection went through all of it: a tenth of the time of the quick tests.
    """
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


def pytest_unconfigure() -> None:
    """Let the interpreter's end free it: libraries say on stderr what they still hold then."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """Folder of numbers from the published implementation."""
    return _shared_folder("reference")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real images to train on."""
    return _shared_folder("data")
