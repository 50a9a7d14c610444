"""The service is killed before and after each of its commits and calls of Ray, and answers and nodes are lost."""

import contextlib
import signal
import threading
from types import SimpleNamespace

import httpx
import pytest

from tests.support.dropping_proxy import DroppingProxy
from tests.support.ray_nodes import RayNodes
from tests.support.service import CHECKOUT, HANGS_AFTER_S, ServiceProcess, wait_for

DYING = str(CHECKOUT / "tests/support/dying_service.py")
pytestmark = pytest.mark.slow


@pytest.fixture
def stopped(tmp_path, database_url, ray):
    """A service that has not been started."""
    with ServiceProcess(tmp_path, database_url, ray) as made:
        yield made


@pytest.mark.parametrize("points", [("insert", "claim", "record"), ("look", "submit")], ids=["commits", "calls"])
def test_the_api_is_killed_before_and_after(stopped, points):
    """Each process finds what the one before it left; the last one lives."""
    acknowledged, clients = {}, []

    def submit(key):
        acknowledged[stopped.submit("", key)] = "succeeded"

    for point in points:
        for when in ("before", "after"):
            stopped.start(DYING, when, point)
            clients.append(threading.Thread(target=submit, args=(f"{when}-{point}",)))
            clients[-1].start()
            assert stopped.process.wait(HANGS_AFTER_S) == -signal.SIGKILL, (when, point)
    stopped.start()
    for client in clients:
        client.join()
    assert len(acknowledged) == 2 * len(points)
    stopped.check(acknowledged)


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_api_is_killed_when_it_stops_an_attempt(stopped, when):
    stopped.start(DYING, when, "stop")
    job = stopped.submit("sleep 600", "k")
    stopped.wait(job, "running")
    with contextlib.suppress(httpx.TransportError):  # it may die before it answers
        stopped.http.post(f"/jobs/{job}/cancel")
    assert stopped.process.wait(HANGS_AFTER_S) == -signal.SIGKILL
    stopped.start()
    stopped.check({job: "cancelled"})


def test_ray_does_what_it_was_asked_for_and_the_answer_is_lost(tmp_path, ray):
    """One attempt with one driver, though Ray was asked more than once; a stop without an answer still stops."""
    with DroppingProxy(ray.url, b"POST /api/jobs/", drops=3) as proxy:
        seen = SimpleNamespace(url=proxy.url, token_file=ray.token_file)
        with ServiceProcess(tmp_path, f"sqlite:///{tmp_path / 'jobs.db'}", seen) as service:
            service.start()
            jobs = {service.submit("", "a"): "succeeded", service.submit("sleep 600", "b"): "cancelled"}
            service.wait(list(jobs)[1], "running")
            service.http.post(f"/jobs/{list(jobs)[1]}/cancel").raise_for_status()
            service.check(jobs)
            assert proxy.drops_left == 0
            assert [service.job(job)["attempt"] for job in jobs] == [1, 1]
            assert service.stop() == 0


def test_200_identical_requests_are_one_job(stopped):
    stopped.start()
    found = []
    clients = [
        threading.Thread(target=lambda: found.extend(stopped.submit("", "same") for _ in range(25))) for _ in range(8)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert (len(found), len(set(found))) == (200, 1)
    stopped.check({found[0]: "succeeded"})
    assert stopped.http.get("/jobs").json()["next_page_token"] is None


def test_a_worker_node_is_killed(tmp_path):
    """A power cut on the node of a driver: the job is attempted again, on another node."""
    with RayNodes(2, tmp_path, head_cpus=0, dashboard=True) as nodes:
        url = f"sqlite:///{tmp_path / 'jobs.db'}"
        with ServiceProcess(tmp_path, url, nodes, driver_resource="") as service:
            service.start()
            job = service.submit("hold", "k")
            service.wait_for_driver(job)
            nodes.kill_one_with("JobSupervisor")
            nodes.add_one()
            wait_for(lambda: service.job(job)["attempt"] == 2)  # else the first driver may end before the loss is seen
            service.release()
            service.check({job: "succeeded"})
            found = service.job(job)
            assert (found["attempt"], found["lost"]) == (2, 1)
            assert service.stop() == 0
