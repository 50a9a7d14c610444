"""The disk of a service is full for a while."""

import resource

import pytest

pytestmark = pytest.mark.slow
UNLIMITED = resource.RLIM_INFINITY


def test_what_cannot_be_stored_is_503_and_everything_goes_on_once_there_is_room(service):
    """Also the log cannot be written meanwhile. A PostgreSQL has a disk of its own: then only results have to wait."""
    before = service.submit("sleep 3", "before")
    process = service.process.pid
    resource.prlimit(process, resource.RLIMIT_FSIZE, (1, UNLIMITED))
    for number in range(5):
        body = {"kind": "sweep", "name": "digits"}
        answer = service.http.post("/jobs", json=body, headers={"Idempotency-Key": f"k{number}"})
        if "sqlite" in service.database_url:
            assert answer.status_code == 503, answer.text
            assert answer.headers["retry-after"]
        else:
            assert answer.status_code == 202, answer.text
        assert service.http.get(f"/jobs/{before}").status_code == 200
    resource.prlimit(process, resource.RLIMIT_FSIZE, (UNLIMITED, UNLIMITED))
    jobs = {service.submit("", f"k{number}"): "succeeded" for number in range(3)}
    service.check(jobs | {before: "succeeded"})
    assert service.stop() == 0
