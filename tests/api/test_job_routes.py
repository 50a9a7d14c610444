"""The endpoints of jobs: submissions and their keys, pages, states, quotas, and streams of events."""

import concurrent.futures
import contextlib
import json
import re
import sqlite3
import threading
from functools import partial

import pytest

from mcl_ray.jobs.messages import JobSpec
from mcl_ray.jobs.specs import total_trials
from tests.support.application import end, is_problem, running, settings_for
from tests.support.service import wait_for


def test_one_key_gives_one_job(app):
    headers = app.headers()
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: app.submit(headers, "same"), range(200)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert answers[0].headers["location"] == f"/api/v1/jobs/{answers[0].json()['id']}"
    assert len(app.http.get("/api/v1/jobs", headers=headers).json()["jobs"]) == 1
    assert is_problem(app.submit(headers, "same", label="other"), 422)
    assert app.submit(app.headers("eve"), "same").json()["id"] != answers[0].json()["id"]


@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        ({"kind": "train"}, "", "`name` is given"),
        (
            {"kind": "bake", "name": "digits"},
            "/kind",
            "must be 'train', 'sweep', 'table', 'linear', 'export' or 'evaluate', but got",
        ),
        ({"kind": "train", "name": "../../etc/passwd"}, "/name", "pattern"),
        ({"kind": "train", "name": "digits.yaml"}, "/name", "pattern"),
        ({"kind": "train", "name": "digits", "env": {"A": "b"}}, "/env", "unknown field 'env'"),
        ({"kind": "train", "name": "digits", "overrides": {"a b": 1}}, "/overrides/a b/[key]", "pattern"),
        (
            {"kind": "train", "name": "digits", "execution": {"address": "x"}},
            "/execution/address",
            "unknown field 'address'",
        ),
        ({"kind": "train", "name": "x" * 10_000}, "/name", "string should"),
        (["train", "digits"], "", "the body must be a JSON object, and be sent with Content-Type: application/json"),
        ({"kind": "export", "name": None}, "", "requires `source`"),
        ({"kind": "train", "name": "digts"}, None, "did you mean 'digits'"),
        ({"kind": "train", "name": "digits", "overrides": {"alhpa": 1}}, None, "did you mean 'alpha'"),
        ({"kind": "train", "name": "digits", "overrides": {"alpha": -1}}, None, "greater than or equal to 0"),
        ({"kind": "sweep", "name": "digits", "overrides": {"study": "sqlite:////tmp/x"}}, None, "cannot be given"),
        ({"kind": "sweep", "name": "digits", "overrides": {"warm_start": ["a"]}}, None, "cannot be given"),
        ({"kind": "train", "name": "digits", "execution": {"workers": "4..2"}}, None, "workers"),
        ({"kind": "train", "name": "digits", "execution": {"parallelism": "cohort"}}, None, "requires several workers"),
        ({"kind": "linear", "name": "digits", "source": "0" * 32}, None, "trains its own"),
    ],
)
def test_a_request_that_breaks_a_rule_is_told_which(shared, body, pointer, words):
    answer = shared.http.post("/api/v1/jobs", json=body, headers=shared.headers())
    assert is_problem(answer, 422)
    found = answer.json()
    texts = [found["detail"], *(part["detail"] for part in found["errors"])]
    assert any(words in text for text in texts), found
    if pointer is not None:
        assert pointer in [part["pointer"] for part in found["errors"]]


@pytest.mark.parametrize(
    ("body", "media_type", "words"),
    [
        (
            '{"kind": "train", "name": "digits"}',
            "application/x-www-form-urlencoded",
            "with Content-Type: application/json",
        ),
        ('{"kind": "train", ', "application/json", "the body must be JSON, but: "),
    ],
)
def test_a_body_that_is_no_json_object_is_told_what_it_must_be(shared, body, media_type, words):
    answer = shared.http.post("/api/v1/jobs", content=body, headers=shared.headers() | {"Content-Type": media_type})
    assert is_problem(answer, 422)
    assert words in answer.json()["errors"][0]["detail"]


def test_pages(app):
    headers = app.headers()
    made = [app.submit(headers, label=f"l{number % 2}").json()["id"] for number in range(7)]
    found, token = [], ""
    while token is not None:
        page = app.http.get(
            "/api/v1/jobs", params={"page_size": 3} | ({"page_token": token} if token else {}), headers=headers
        )
        assert page.status_code == 200, page.text
        found += [job["id"] for job in page.json()["jobs"]]
        token = page.json()["next_page_token"]
    assert found == made[::-1]
    labelled = app.http.get("/api/v1/jobs?label=l1&state=queued&kind=train", headers=headers).json()["jobs"]
    assert [job["id"] for job in labelled] == made[1::2][::-1]


def test_states_forbid_what_makes_no_sense(app):
    headers = app.headers()
    job = app.submit(headers).json()["id"]
    assert is_problem(app.http.post(f"/api/v1/jobs/{job}/retry", headers=headers), 409)
    assert is_problem(app.http.post(f"/api/v1/jobs/{job}/extend", json={"trials": 1}, headers=headers), 409)
    assert app.http.post(f"/api/v1/jobs/{job}/cancel", headers=headers).json()["desired"] == "cancelled"
    assert app.http.post(f"/api/v1/jobs/{job}/cancel", headers=headers).status_code == 202
    end(app, job, "cancelled")
    assert app.http.post(f"/api/v1/jobs/{job}/cancel", headers=headers).status_code == 202  # it is what was asked for
    child = app.http.post(f"/api/v1/jobs/{job}/retry", headers=headers | {"Idempotency-Key": "again"})
    assert child.status_code == 202
    assert (child.json()["parent"], child.json()["origin"]) == (job, job)
    same = app.http.post(f"/api/v1/jobs/{job}/retry", headers=headers | {"Idempotency-Key": "again"})
    assert same.json()["id"] == child.json()["id"]
    assert is_problem(app.http.post(f"/api/v1/jobs/{job}/retry", headers=headers), 409)  # one writer a folder
    end(app, child.json()["id"], "succeeded")
    assert is_problem(app.http.post(f"/api/v1/jobs/{child.json()['id']}/cancel", headers=headers), 409)


def test_of_retries_at_the_same_moment_one_is_taken(app):
    headers = app.headers()
    job = app.submit(headers).json()["id"]
    end(app, job, "failed")
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: app.http.post(f"/api/v1/jobs/{job}/retry", headers=headers), range(32)))
    assert sorted(answer.status_code for answer in answers) == [202] + 31 * [409]


def test_a_sweep_that_is_extended_twice_has_the_sum_of_trials(app):
    headers = app.headers()
    body = {"kind": "sweep", "name": "digits", "overrides": {"trials": 3}}
    job = app.http.post("/api/v1/jobs", json=body, headers=headers).json()["id"]
    for trials in (2, 4):
        end(app, job, "succeeded")
        answer = app.http.post(f"/api/v1/jobs/{job}/extend", json={"trials": trials}, headers=headers)
        assert answer.status_code == 202, answer.text
        job = answer.json()["id"]

    with contextlib.closing(sqlite3.connect(app.database.url.database)) as connection:
        (spec,) = connection.execute("SELECT spec FROM job WHERE id = ?", (job,)).fetchone()
    assert total_trials(JobSpec.model_validate_json(spec)) == 9


def test_quotas(tmp_path):
    for app in running(settings_for(tmp_path, no_reconciler=True, max_jobs_per_owner=2, max_streams_per_owner=1)):
        headers = app.headers()
        job = app.submit(headers, "a").json()["id"]
        app.submit(headers, "b")
        refused = app.submit(headers, "c")
        assert is_problem(refused, 429)
        assert refused.headers["retry-after"]
        assert app.submit(headers, "a").json()["id"] == job
        assert app.submit(app.headers("eve")).status_code == 202
        with app.http.stream("GET", f"/api/v1/jobs/{job}/events", headers=headers) as stream:
            assert stream.status_code == 200
            assert is_problem(app.http.get(f"/api/v1/jobs/{job}/events", headers=headers), 429)
            end(app, job, "failed")
            stream.read()
        assert wait_for(partial(is_followed, app, job, headers))  # its place is free shortly after its end


def is_followed(app, job, headers):
    return app.http.get(f"/api/v1/jobs/{job}/events", headers=headers).status_code == 200


def test_events_are_replayed_and_followed(app):
    headers = app.headers()
    job = app.submit(headers).json()["id"]
    timer = threading.Timer(1.0, end, (app, job, "succeeded"))
    timer.start()
    with app.http.stream("GET", f"/api/v1/jobs/{job}/events", headers=headers) as stream:
        text = stream.read().decode()
    timer.join()
    ids = re.findall(r"^id: (\d+)$", text, re.MULTILINE)
    states = [json.loads(line)["state"] for line in re.findall(r"^data: (.*)$", text, re.MULTILINE)]
    assert states == ["queued", "succeeded"]
    again = app.http.get(f"/api/v1/jobs/{job}/events", headers=headers | {"Last-Event-ID": ids[0]}).text
    assert re.findall(r"^id: (\d+)$", again, re.MULTILINE) == ids[1:]


def test_a_stream_that_fails_says_so(app, monkeypatch):
    headers = app.headers()
    job = app.submit(headers).json()["id"]
    monkeypatch.setattr("api.jobs.events", lambda *_: 1 / 0)
    text = app.http.get(f"/api/v1/jobs/{job}/events", headers=headers).text
    assert "event: error" in text


def test_a_dry_run_submits_nothing(app):
    headers = app.headers()
    answer = app.http.post(
        "/api/v1/jobs?validate_only=true",
        json={"kind": "sweep", "name": "digits", "overrides": {"trials": 2, "repeats": 3}},
        headers=headers,
    )
    assert answer.status_code == 200
    assert answer.json()["runs"] == 9
    assert app.http.get("/api/v1/jobs", headers=headers).json()["jobs"] == []


def test_garbage_rows_are_shown_and_spoil_nothing(app):
    headers = app.headers()
    good, bad = app.submit(headers).json()["id"], app.submit(headers).json()["id"]
    with contextlib.closing(sqlite3.connect(app.database.url.database)) as connection, connection:
        connection.execute("UPDATE job SET spec = '{', state = 'bogus' WHERE id = ?", (bad,))
    found = app.http.get("/api/v1/jobs", headers=headers).json()["jobs"]
    assert [job["id"] for job in found] == [bad, good]
    assert app.http.get(f"/api/v1/jobs/{bad}", headers=headers).json()["request"] is None
