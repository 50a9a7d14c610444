"""The documentation of the service: every setting and endpoint is in it, and its example works as printed."""

import re
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from api.app import create_app
from api.settings import Settings
from mcl_ray.cli import app
from mcl_ray.cli.serve import program
from mcl_ray.client import Client
from tests.support.service import CHECKOUT, ServiceProcess

PAGE = (Path(__file__).parents[2] / "docs" / "service.md").read_text()


def test_every_setting_is_on_the_page_and_in_the_help(capsys):
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", PAGE, re.MULTILINE))
    assert rows == {name: " ".join(field.description.split()) for name, field in Settings.model_fields.items()}
    program("serve")(["--help"], exit_on_error=False)
    words = capsys.readouterr().out
    assert {f"--{name.replace('_', '-')}" for name in rows} <= set(re.findall(r"--[a-z-]+", words))


def test_every_endpoint_is_on_the_page():
    for path, methods in create_app(Settings()).openapi()["paths"].items():
        for method in methods:
            assert f"`{method.upper()} {path.removeprefix('/api/v1')}`" in PAGE, (method, path)


def test_the_commands_of_the_page_are_understood():
    lines = re.findall(r"^python -m mcl_ray\.serve(.*)$", PAGE, re.MULTILINE)
    assert len(lines) == 4
    for line in lines:
        program("serve").parse_args(line.split(), exit_on_error=False, print_error=False)
    assert app.program


@pytest.mark.slow
def test_the_example_works_as_printed(local_ray, tmp_path):
    """With a real server, a real Ray and the real driver."""
    import sys

    with ServiceProcess(
        tmp_path, f"sqlite:///{tmp_path / 'jobs.db'}", local_ray, driver=f"{sys.executable} -m mcl_ray.job"
    ) as service:
        service.start()
        (example,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
        server = f"http://127.0.0.1:{service.port}"
        ends = time.monotonic() + 300
        while True:
            try:
                if httpx.get(f"{server}/readyz").is_success:
                    break
            except httpx.HTTPError:
                pass
            assert time.monotonic() < ends
            time.sleep(1)
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        done = subprocess.run(
            ["bash", "-eu", "-c", example],
            cwd=tmp_path,
            env={"SERVER": server, "KEY": service.key, "PATH": path, "PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert '"state": "succeeded"' in done.stdout, done.stdout
        assert re.search(r'"digits-\w+-1",1,1,"peer0","test","top1",\d', done.stdout), done.stdout
        with Client(server, key=service.key) as client:
            (job,) = client.jobs(state="succeeded")
            handle = client.job(job.id)
            assert b"learning" in handle.report().lower()
            assert "epoch 1" in handle.logs(0)[0]
            assert {artifact.path.rpartition("/")[2] for artifact in handle.artifacts()} >= {
                "run.parquet",
                "report.html",
            }
        assert service.stop() == 0
