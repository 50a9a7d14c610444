"""`mcl monitor` as a user has it: the studies of a sweep by HTTP, read and not changed."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from mcl_ray.cli import app
from mcl_ray.cli.monitor import monitor
from tests.support.commands import HANGS_AFTER_S

ROOT = Path(__file__).resolve().parents[2]
FIXTURE = ROOT / "tests" / "fixtures" / "c5bbcbf" / "results"
SWEEP = "digits-b27ebce308-1"


@pytest.fixture
def results(tmp_path):
    return Path(shutil.copytree(FIXTURE, tmp_path / "results"))


@pytest.mark.slow
def test_the_dashboard_of_the_latest_sweep_is_served_and_only_reads(results):
    study = results / "sweeps" / SWEEP / "study.db"
    before = hashlib.sha256(study.read_bytes()).hexdigest()
    code = "from mcl_ray.cli.main import main; main()"
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, "monitor", "--results", results, "--port", "0"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            said = " ".join(process.stdout.readline().split())
            url = re.search(r"(http://127\.0\.0\.1:\d+)/dashboard/", said)[1]
            assert SWEEP in said
            (found,) = httpx.get(f"{url}/api/studies", timeout=HANGS_AFTER_S).json()["study_summaries"]
            detail = httpx.get(f"{url}/api/studies/{found['study_id']}", timeout=HANGS_AFTER_S).json()
            assert len(detail["trials"]) > 1
            assert 'src="/static/bundle.js"' in httpx.get(f"{url}/dashboard/", timeout=HANGS_AFTER_S).text
            assert not httpx.delete(f"{url}/api/studies/{found['study_id']}", timeout=HANGS_AFTER_S).is_success
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(HANGS_AFTER_S) == 128 + signal.SIGINT
    assert hashlib.sha256(study.read_bytes()).hexdigest() == before


@pytest.mark.parametrize(("words", "rule"), [(["no-such"], "a sweep is named by"), ([SWEEP], "requires the study")])
def test_what_cannot_be_shown_is_refused(results, words, rule, capsys):
    (results / "sweeps" / SWEEP / "study.db").unlink()
    with pytest.raises(SystemExit) as exit_, app.exit_codes():
        app.program(monitor)([*words, "--results", str(results)], exit_on_error=False, print_error=False)
    assert exit_.value.code == app.EXIT_BAD_INPUT
    assert rule in capsys.readouterr().err
