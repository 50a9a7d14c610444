"""What the service survives, with a real Ray, real databases and real kills; the drivers' own log is the judge."""

import asyncio
import contextlib
import os
import random
import signal
import threading
import time

import httpx
import pytest

from api.database import Database
from api.ray_jobs import RayError, RayJobs
from api.settings import Settings
from benchmarks.campaign.service import processes_of
from tests.support.application import running, settings_for
from tests.support.postgres import postgres
from tests.support.service import KilledPostgres, ServiceProcess, wait_for
from trainables.cluster.local_ray import LocalRay


def test_the_api_is_killed_at_random_moments(service):
    """Every acknowledged job runs to its end once, whatever the process was doing."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201
    moments, acknowledged = random.Random(seed), {}
    submitter = threading.Thread(
        target=lambda: [acknowledged.update({service.submit("", f"k{n}"): "succeeded"}) for n in range(8)]
    )
    submitter.start()
    for _ in range(3):
        time.sleep(moments.uniform(0.5, 4.0))
        service.stop(signal.SIGKILL)
        service.start()
    submitter.join()
    assert len(acknowledged) == 8
    service.check(acknowledged)


def test_how_drivers_end(service):
    """A killed driver is tried again, three lost attempts fail, its own failure is final with its own reason."""
    ids = {
        label: service.submit(label, label.replace(" ", "-"))
        for label in ("kill me once", "kill me", "fail", "interrupted once")
    }
    service.check(
        {
            ids["kill me once"]: "succeeded",
            ids["kill me"]: "failed",
            ids["fail"]: "failed",
            ids["interrupted once"]: "succeeded",
        }
    )
    assert service.job(ids["fail"])["reason"] == "SpecError: as asked for"
    assert service.job(ids["fail"])["attempt"] == 1
    assert (service.job(ids["kill me"])["attempt"], service.job(ids["kill me"])["lost"]) == (3, 3)
    assert service.job(ids["kill me once"])["lost"] == 1
    assert service.job(ids["interrupted once"])["lost"] == 0


def test_cancel_at_every_step(service):
    """Queued, starting and running jobs end as cancelled; one that has ended stays as it is."""
    ids = [service.submit("sleep 600", f"k{number}") for number in range(5)]  # three run at a time
    service.wait(ids[0], "running")
    done = service.http.post
    for job_id in ids:
        done(f"/jobs/{job_id}/cancel").raise_for_status()
    service.check(dict.fromkeys(ids, "cancelled"))
    ended = service.job(ids[0])
    service.http.post(f"/jobs/{ids[0]}/cancel")
    assert service.job(ids[0])["rev"] == ended["rev"]


def test_two_processes_share_a_database_and_one_dies(tmp_path, postgresql_url, ray):
    with (
        ServiceProcess(tmp_path, postgresql_url, ray) as first,
        ServiceProcess(tmp_path, postgresql_url, ray) as second,
    ):
        first.start()
        second.start()
        acknowledged = {first.submit("", f"k{number}"): "succeeded" for number in range(4)}
        first.stop(signal.SIGKILL)
        acknowledged |= {second.submit("", f"k{number}"): "succeeded" for number in range(6)}
        assert len(acknowledged) == 6
        second.check(acknowledged)
        assert second.stop() == 0


def test_postgresql_is_killed_under_load(tmp_path, ray):
    """Requests are answered 503 with Retry-After meanwhile, never 500, and nothing that was acknowledged is lost."""
    with postgres() as url, ServiceProcess(tmp_path, url, ray) as service:
        service.start()
        acknowledged = {service.submit("", "before"): "succeeded"}
        server = KilledPostgres(url)
        answer = service.http.post("/jobs", json={"kind": "sweep", "name": "digits"})
        assert answer.status_code == 503, answer.text
        assert answer.headers["retry-after"]
        assert service.http.get("/jobs").status_code == 503
        server.start()
        acknowledged[service.submit("", "after")] = "succeeded"
        service.check(acknowledged)
        assert service.stop() == 0


def test_sigterm_ends_a_process_with_open_streams_in_time(service):
    job = service.submit("sleep 100000", "k")
    service.wait(job, "running", "starting")
    with service.http.stream("GET", f"/jobs/{job}/events") as stream:
        assert stream.status_code == 200
        assert service.stop() == 0
    service.start()
    service.wait_until_ready()
    service.http.post(f"/jobs/{job}/cancel").raise_for_status()
    service.check({job: "cancelled"})


def test_ray_is_used_with_its_token_alone(ray, tmp_path):
    async def look():
        client = RayJobs(Settings(address=ray.url, ray_token_file=ray.token_file, state=tmp_path), "root")
        await client.check_ready()
        await client.close()
        wrong = tmp_path / "token"
        wrong.write_text("wrong")
        refused = RayJobs(Settings(address=ray.url, ray_token_file=wrong, state=tmp_path), "root")
        with pytest.raises(RayError, match="must accept this service's token"):
            await refused.check_ready()
        await refused.close()

    asyncio.run(look())


serving = contextlib.contextmanager(running)


class OpenRay(LocalRay):
    """A Ray that asks for no token."""

    def _environment(self):
        return super()._environment() | {"RAY_AUTH_MODE": "disabled"}


@pytest.mark.slow
def test_a_ray_that_anybody_can_use_is_refused(tmp_path):
    """It is asked for nothing, until `allow_open_ray` says that this is meant."""
    (tmp_path / "ray").mkdir()
    ray = OpenRay(tmp_path / "ray")
    ray.start()
    settings = settings_for(tmp_path, address=ray.url, ray_token_file=ray.token_file, poll_s=0.1)
    anybody = httpx.Client(base_url=ray.url, timeout=60)
    try:
        wait_for(lambda: anybody.get("/api/jobs/").is_success)
        with serving(settings) as app:
            headers = app.headers()
            job = f"/api/v1/jobs/{app.submit(headers).json()['id']}"
            refusal = "must refuse requests without a token"
            wait_for(lambda: refusal in app.http.get(job, headers=headers).json()["reason"])
            assert app.http.get(job, headers=headers).json()["state"] == "starting"
            assert app.http.get("/readyz").json()["detail"] == "not ready: ray"
            assert anybody.get("/api/jobs/").json() == []
        with serving(settings.model_copy(update={"allow_open_ray": True})) as app:
            wait_for(lambda: app.http.get("/readyz").is_success)
            wait_for(lambda: anybody.get("/api/jobs/").json())
    finally:
        anybody.close()
        ray.stop()


def test_the_head_is_killed_with_its_job_table(ray, services):
    """All jobs end, each attempt with one driver at most."""
    acknowledged = [{service.submit("hold", f"k{number}"): "succeeded" for number in range(2)} for service in services]
    for service, jobs in zip(services, acknowledged, strict=True):
        service.wait_for_driver(next(iter(jobs)))
        jobs[service.submit("hold", "starting")] = "succeeded"
    os.kill(ray.head, signal.SIGKILL)
    for process in ray.processes():
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
    for service, jobs in zip(services, acknowledged, strict=True):
        service.release()
        service.check(jobs)
        assert service.job(next(iter(jobs)))["attempt"] == 2


def test_the_agent_of_the_node_is_killed(ray, services):
    """The raylet ends with it in good order, and `ray start --block` goes on: the service starts the node again."""
    jobs = [service.submit("hold", "k") for service in services]
    for service, job in zip(services, jobs, strict=True):
        service.wait_for_driver(job)
    agents = wait_for(lambda: list(processes_of(ray, "agent")))  # a node may run jobs before its agents have started
    os.kill(agents[0], signal.SIGKILL)
    for service, job in zip(services, jobs, strict=True):
        after = service.submit("", "after")
        service.release()
        service.check({job: "succeeded", after: "succeeded"})


def test_a_row_that_makes_no_sense_is_quarantined(service):
    import sqlalchemy as sa

    from api.database import job as table

    good = service.submit("sleep 3", "good")
    bad = service.submit("sleep 600", "bad")
    database = Database(service.database_url)
    with database.write_engine.begin() as connection:
        garbage = {"desired": "bogus", "due": 0.0, "rev": table.c.rev + 1}
        connection.execute(sa.update(table).where(table.c.id == bad).values(garbage))
    database.close()
    service.check({good: "succeeded"})
    wait_for(lambda: str(service.job(bad)["reason"]).startswith("quarantined"))
