"""The client and the commands, against a real application; the results are those of a real sweep's records."""

import threading

import pytest

from mcl_ray.cli import app as cli
from mcl_ray.cli import jobs
from mcl_ray.client import Client, RefusedError, ServiceError
from mcl_ray.errors import TrainingError, UserError
from tests.support.application import end
from tests.support.synthetic import write_sweep


@pytest.fixture
def server(app, monkeypatch):
    key = app.key()
    monkeypatch.setenv("MCL_API_KEY", key)
    return str(app.http.base_url)


def test_the_life_of_a_job(app, server):
    with Client(server) as client:
        handle = client.submit("digits", trials=8, label="mine", idempotency_key="k")
        assert client.submit("digits", trials=8, label="mine", idempotency_key="k").id == handle.id
        assert handle.job.request["overrides"] == {"trials": 8}
        assert [job.id for job in client.jobs(label="mine")] == [handle.id]
        assert handle.cancel().desired == "cancelled"
        timer = threading.Timer(0.5, end, (app, handle.id, "cancelled"))
        timer.start()
        assert [event.state for event in handle.events()] == ["queued", "cancelled"]
        timer.join()
        assert handle.wait().job.state == "cancelled"
        child = handle.retry()
        assert child.job.parent == handle.id
        end(app, child.id, "succeeded")
        assert child.extend(4).job.parent == child.id
        with pytest.raises(TimeoutError):
            client.job(client.submit("digits").id).wait(timeout_s=0.1, poll_s=0.1)


def test_results(app, server):
    with Client(server) as client:
        handle = client.submit("digits")
        folder = app.settings.results_root / "jobs" / handle.id / "results"
        folder.mkdir(parents=True)
        write_sweep(folder, [{"losses.alpha": number / 10} for number in range(8)])
        ranked = handle.ranking()
        assert ranked[0]["place"] == 1
        assert "losses.alpha" in ranked[0]["searched"]
        assert handle.runs().num_rows == 8
        assert set(handle.metrics(metric="top1")["metric"].to_pylist()) == {"top1"}
        assert handle.artifacts() == []
        assert handle.logs(0) == ("", 0)
        with pytest.raises(RefusedError, match="no report yet"):
            handle.report()


@pytest.mark.slow
def test_errors(app, server):
    with Client(server) as client:
        with pytest.raises(RefusedError, match="did you mean 'digits'") as refused:
            client.submit("digts")
        assert refused.value.status == 422
        with pytest.raises(RefusedError, match="there is no job"):
            client.job("0" * 32)
        with pytest.raises(RefusedError, match="name"):
            client.submit("../x")
    with Client(server, key="mcl_wrong") as client, pytest.raises(RefusedError, match="API key"):
        list(client.jobs())
    with Client("http://127.0.0.1:9") as client, pytest.raises(ServiceError, match="must answer"):
        list(client.jobs())


def test_the_commands(app, server, capsys, tmp_path):
    jobs.submit("sweep", "digits", "trials=2", "space.losses.alpha=null", server=server, label="x")
    job = capsys.readouterr().out.strip()
    jobs.jobs(server=server)
    assert job in capsys.readouterr().out
    jobs.status(job, server=server)
    shown = capsys.readouterr().out
    assert "state: queued" in shown
    assert "trials: 2" in shown
    jobs.submit("train", "digits", server=server, dry_run=True)
    assert "recipe: digits" in capsys.readouterr().out
    jobs.cancel(job, server=server)
    end(app, job, "cancelled")
    with pytest.raises(TrainingError, match="cancelled: because"):
        jobs.watch(job, server=server)
    assert "cancelled, attempt 1" in capsys.readouterr().out
    log = app.settings.results_root / "jobs" / job / "a1.log"
    log.parent.mkdir(parents=True)
    log.write_text("line [1]\n" * 20_000)
    capsys.readouterr()
    jobs.logs(job, server=server, follow=True)
    assert capsys.readouterr().out == "line [1]\n" * 20_000
    jobs.retry(job, server=server)
    child = capsys.readouterr().out.strip()
    end(app, child, "failed")
    jobs.extend(child, trials=3, server=server)
    assert len(capsys.readouterr().out.strip()) == 32
    with pytest.raises(SystemExit) as left, cli.exit_codes():
        jobs.submit("sweep", "digits", "trials", server=server)
    assert left.value.code == 2


def test_a_key_that_no_header_can_hold_is_refused_without_being_shown():
    with pytest.raises(UserError, match="printable ASCII") as refused:
        Client("http://127.0.0.1:1", key="mcl_\u2026secret")
    assert "secret" not in str(refused.value)


def test_a_secret_appears_nowhere(app, server, capsys, caplog):
    """Neither the key nor the database's password is in a log line, an answer or an event."""
    key = app.key("ada")
    headers = {"Authorization": f"Bearer {key}"}
    texts = []
    job = app.submit(headers).json()["id"]
    for path in ("/api/v1/jobs", f"/api/v1/jobs/{job}", "/metrics", "/nope", "/api/v1/jobs?page_token=x", "/readyz"):
        answer = app.http.get(path, headers=headers)
        texts += [answer.text, str(answer.headers)]
    texts += [app.http.get("/api/v1/jobs", headers={"Authorization": f"Bearer {key}x"}).text]
    output = capsys.readouterr()
    assert f"path='/api/v1/jobs/{job}'" in caplog.text
    secret = key.split("_", 2)[2]
    assert all(secret not in text for text in (*texts, caplog.text, output.out, output.err))
