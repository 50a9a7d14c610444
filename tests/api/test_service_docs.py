"""The documentation of the service: its commands parse and its examples work as printed."""

import json
import re
import subprocess
import sys
from pathlib import Path

from mcl_ray.cli import app
from mcl_ray.cli.serve import program
from mcl_ray.client import Client
from tests.support.service import CHECKOUT, HANGS_AFTER_S, ServiceProcess

PAGE = (CHECKOUT / "docs" / "service.md").read_text()
README = (CHECKOUT / "README.md").read_text()


def test_the_commands_of_the_page_are_understood():
    lines = re.findall(r"^python -m mcl_ray\.serve(.*)$", PAGE, re.MULTILINE)
    assert len(lines) == 5
    for line in lines:
        program("serve").parse_args(line.split(), exit_on_error=False, print_error=False)
    assert app.program


def example(page, language):
    """The example of a page in a language; there is one."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    return found


def test_the_examples_work_as_printed(local_ray, tmp_path):
    """With a real server, a real Ray and the real driver: README's curl, and the page's curl and Python."""
    driver = f"{sys.executable} -m mcl_ray.job"
    with ServiceProcess(tmp_path, f"sqlite:///{tmp_path / 'jobs.db'}", local_ray, driver=driver) as service:
        service.start()
        service.wait_until_ready()
        server = f"http://127.0.0.1:{service.port}"
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        environment = {"SERVER": server, "KEY": service.key, "PATH": path, "PYTHONPATH": str(CHECKOUT)}

        def run(*words):
            done = subprocess.run(
                words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=HANGS_AFTER_S, check=False
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        submitted = json.loads(run("bash", "-eu", "-c", example(README, "bash")))
        assert (submitted["state"], submitted["name"]) == ("queued", "digits")
        shown = run("bash", "-eu", "-c", example(PAGE, "bash"))
        assert '"state": "succeeded"' in shown, shown
        assert re.search(r'"digits-\w+-1",1,1,"peer0","test","top1",\d', shown), shown
        assert service.wait(submitted["id"])["state"] == "succeeded"
        python = example(PAGE, "python").replace("http://127.0.0.1:8080", server).replace("mcl_…", service.key)
        assert "'place': 1," in run(sys.executable, "-c", python)
        with Client(server, key=service.key) as client:
            handle = client.job(submitted["id"])
            assert b"learning" in handle.report().lower()
            assert "epoch 1" in handle.logs(0)[0]
            files = {artifact.path.rpartition("/")[2] for artifact in handle.artifacts()}
            assert files >= {"run.parquet", "report.html"}
        assert service.stop() == 0
