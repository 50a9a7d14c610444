"""The page in a real Chromium: what a user sees, by pointer and by keyboard, in each size and colour scheme."""

import re

import pytest
import sqlalchemy as sa
from playwright.sync_api import expect

from api.database import job
from mcl_ray.jobs.messages import JobSpec
from tests.support import service_jobs
from tests.support.application import running, settings_for
from tests.support.browser import chromium, tab

pytestmark = pytest.mark.slow
SIZES = {1400: 900, 390: 844}
CANARY = "canary-4f1d9b7e"
"""A secret that the service knows, which no page may show."""


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    (folder / "ray_token").write_text(CANARY)
    yield from running(settings_for(folder, no_reconciler=True, ray_token_file=folder / "ray_token"))


@pytest.fixture(scope="module")
def key(app):
    return app.key("ada", "read", "submit")


@pytest.fixture(scope="module")
def headers(key):
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def sweep(app, headers):
    return service_jobs.finished_sweep(app, headers)


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture
def signed_in(app, key, browser):
    """A function that opens a tab with the key in its cookie."""
    contexts = []

    def open_tab(address="", **options):
        context = tab(browser, str(app.http.base_url), **options)
        found = context.__enter__()
        contexts.append((context, found))
        sign_in(found.page, key)
        if address:
            found.page.goto(f"/{address}")
        return found

    yield open_tab
    for context, found in contexts:
        try:
            found.check()
        finally:
            context.__exit__(None, None, None)


def sign_in(page, key):
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()


def whole(page):
    """The page, once its view is drawn as a whole."""
    expect(page.locator("main")).not_to_have_attribute("aria-busy", "true")
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")  # charts fit then
    return page


def press_until(page, locator, most=60):
    """Move the focus by Tab to an element, as a user without a pointer does; each stop must show where it is."""
    for _ in range(most):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", page.evaluate("document.activeElement.outerHTML")
        if locator.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError("the element is not reached by Tab")


def test_a_key_signs_in_and_out(app, key, browser):
    with tab(browser, str(app.http.base_url)) as found:
        page = found.page
        page.get_by_label("API key").fill("mcl_000000000000_wrong")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert").filter(has_text="does not know this key")).to_be_visible()
        page.get_by_label("API key").fill(key)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert page.evaluate("document.cookie") == ""
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("API key")).to_be_focused()
        assert page.context.cookies() == []
        found.check()


@pytest.mark.parametrize("width", SIZES)
def test_the_first_screen_of_a_finished_sweep_has_the_answer(app, headers, signed_in, sweep, width):
    found = signed_in(width=width, height=SIZES[width])
    found.page.get_by_role("row", name="weights").get_by_role("link").click()
    card = found.page.get_by_role("region", name="Use this configuration")
    best = card.locator(".value")
    expect(best).to_have_text(re.compile(r"^\d\d\.\d\d ± \d\.\d\d % n = 3 seeds$"))
    sure = card.get_by_text("How sure: ")
    expect(sure).to_contain_text(re.compile("over 3 seeds", re.IGNORECASE))
    for seen in (best, sure, card.get_by_role("rowheader", name="runner-up").first):
        box = seen.bounding_box()
        assert box["y"] + box["height"] < SIZES[width], box
    expect(card.locator("tbody th")).to_contain_text(["best", "runner-up", "published weights", "baseline"])
    told = ["within the noise", "more than the noise", "more than the noise"]
    expect(card.locator(".significance")).to_have_text(told)
    command = card.locator("pre").text_content()
    run = re.fullmatch(rf"mcl submit export --from {sweep} --run (\S+) --server \S+", command)[1]
    export = {"kind": "export", "name": None, "overrides": {}, "source": sweep, "run": run}
    assert app.submit(headers, **export).status_code == 202


def test_one_seed_is_not_called_sure(app, headers, signed_in):
    job_id = service_jobs.finished_sweep(app, headers, seeds=(0,), number=9, label="one seed", own_alpha=7.0)
    card = signed_in(f"#/jobs/{job_id}").page.get_by_role("region", name="Use this configuration")
    expect(card.get_by_text("How sure: not known.")).to_be_visible()
    assert set(card.locator(".significance").all_text_contents()) == {"cannot be told from one seed"}
    expect(card.get_by_text("Not compared with the recipe's own values: it is no configuration")).to_be_visible()


def test_a_sweep_shows_its_ranking_and_its_figures(signed_in, sweep):
    page = signed_in(f"#/jobs/{sweep}").page
    ranking = page.get_by_role("region", name="Ranking")
    expect(ranking.get_by_role("row")).to_have_count(18)
    expect(ranking.get_by_role("row", name=re.compile("^– 1 .* baseline, for comparison$"))).to_be_visible()
    expect(ranking.get_by_role("img").first).to_have_attribute("aria-label", re.compile(r"^\d\d\.\d\d … \d\d\.\d\d$"))
    expect(page.get_by_role("row", name=re.compile(r"alpha\s+62\.0 %"))).to_be_visible()
    expect(page.get_by_role("group", name=re.compile("On the front: place"))).to_have_count(2)
    expect(page.locator(".way")).to_have_count(14)
    stopped = ranking.get_by_role("row", name=re.compile(" 6 stopped")).count()
    assert stopped > 0
    expect(page.locator(".way.early")).to_have_count(stopped)
    expect(page.locator(".coordinates").get_by_text("epoch 6")).to_have_count(stopped)
    costs = page.get_by_role("group", name=re.compile("^Score against"))
    expect(costs.first.locator("text.place").get_by_text("epoch 6")).to_have_count(stopped)
    assert "null" not in page.content()
    *axes, last = page.locator(".coordinates text.label").all_text_contents()
    assert (sorted(axes), last) == (["alpha", "beta", "cohort size", "gamma", "lam"], "score (%)")
    page.get_by_role("group", name=re.compile("Parallel coordinates")).focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator(".readout")).to_have_text(re.compile(r"^2\. "))
    chart = page.get_by_role("group", name=re.compile("Top-1 accuracy, validation"))
    expect(chart.locator("tbody th")).to_have_text(
        ["mean of peers", *(f"peer {number}" for number in range(4)), "ensemble"]
    )
    chart.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(chart.locator("thead td")).to_have_text("11")


def test_curves_grow_while_a_sweep_runs(app, headers, signed_in):
    live = service_jobs.RunningSweep(app, headers)
    try:
        live.add_epoch()
        page = signed_in(f"#/jobs/{live.job_id}").page
        accuracy = page.get_by_role("group", name=re.compile("Top-1 accuracy, validation"))
        losses = page.get_by_role("group", name=re.compile("Training loss"))
        expect(accuracy.locator("thead td")).to_have_text("1")
        for _ in range(3):
            epoch = live.add_epoch()
            expect(accuracy.locator("thead td")).to_have_text(str(epoch))
            expect(losses.locator("thead td")).to_have_text(str(epoch))
            points = "paths => paths.map(path => path.getAttribute('d').split('L').length)"
            lengths = accuracy.locator("path.stroke").evaluate_all(points)
            assert lengths == [epoch] * 5
        names = ["mean of peers", "peer 0", "peer 1", "peer 2", "ensemble"]
        expect(accuracy.locator("tbody th")).to_have_text(names)
        service_jobs.write_log(app, live.job_id, "the newest line\n")
        expect(page.get_by_label("Log", exact=True)).to_contain_text("the newest line")
        expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "1")
    finally:
        live.close()


def test_the_form_shows_errors_beside_fields_and_submits(app, headers, signed_in):
    page = signed_in("#/submit").page
    expect(page.get_by_text("25 runs of up to 12 epochs.")).to_be_visible()
    tau = page.get_by_label(re.compile("^tau"))
    expect(tau).to_have_attribute("placeholder", "0.1")
    tau.fill("-1")
    page.get_by_label(re.compile("^trials")).fill("3")
    page.get_by_role("button", name="Submit").click()
    error = page.locator("#field-run-losses-tau-error")
    expect(error).to_have_text("must be greater than 0, but got -1")
    expect(tau).to_be_focused()
    expect(tau).to_have_attribute("aria-invalid", "true")
    assert "field-run-losses-tau-error" in tau.get_attribute("aria-describedby")
    tau.fill("0.2")
    expect(error).to_have_text("")
    expect(page.get_by_text("12 runs of up to 12 epochs.")).to_be_visible()
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name="sweep digits")).to_be_visible()
    job_id = page.url.rpartition("/")[2]
    request = app.http.get(f"/api/v1/jobs/{job_id}", headers=headers).json()["request"]
    assert request["overrides"] == {"run.losses.tau": 0.2, "trials": 3}


def test_a_job_is_cancelled_by_keyboard_alone(app, headers, signed_in):
    job_id = service_jobs.submit(app, headers, label="to cancel")
    page = signed_in(f"#/jobs/{job_id}").page
    cancel = page.get_by_role("button", name="Cancel", exact=True)
    expect(cancel).to_be_visible()
    page.reload()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    expect(cancel).to_be_visible()
    press_until(page, cancel)
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(cancel).to_be_focused()
    assert desired(app, job_id) == "run"
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Cancel the job")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("It was asked to stop")).to_be_visible()
    assert desired(app, job_id) == "cancelled"


def desired(app, job_id):
    return app.database.read(sa.select(job.c.desired).where(job.c.id == job_id))[0][0]


def test_retry_and_extend_ask_first(app, headers, signed_in, sweep):
    failed = service_jobs.submit(app, headers, "failed", label="to retry")
    page = signed_in(f"#/jobs/{failed}").page
    page.get_by_role("button", name="Retry").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry").click()
    expect(page.get_by_role("link", name="continues an earlier job")).to_have_attribute("href", f"#/jobs/{failed}")
    other = service_jobs.finished_sweep(app, headers, number=3, label="to extend")
    page.goto(f"/#/jobs/{other}")
    page.get_by_role("button", name="Extend").click()
    page.get_by_label("More trials").fill("5")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="continues an earlier job")).to_have_attribute("href", f"#/jobs/{other}")
    spec = app.database.read(sa.select(job.c.spec).where(job.c.id == page.url.rpartition("/")[2]))[0][0]
    assert JobSpec.model_validate_json(spec).extra_trials == 5


def test_markup_is_shown_as_text(app, headers, signed_in):
    job_id = service_jobs.failed_run(app, headers)
    found = signed_in(f"#/jobs/{job_id}")
    page = found.page
    for place in (page.locator(".notice"), page.get_by_label("Log", exact=True), page.locator(".legend").first):
        expect(place.first).to_contain_text(service_jobs.MARKUP)
    expect(page).to_have_title("train digits – mcl-ray")
    assert page.locator("img, main b").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", SIZES)
def test_every_view_fits_and_reports_no_error(app, headers, signed_in, sweep, width, scheme):
    views = {
        "#/": "Jobs",
        "#/?state=cancelled&label=none": "Jobs",
        "#/submit": "Submit a job",
        f"#/jobs/{sweep}": "sweep digits",
        f"#/jobs/{service_jobs.run_of_peers(app, headers, epochs=3)}": "train digits",
        f"#/jobs/{service_jobs.submit(app, headers, 'starting')}": "train digits",
    }
    found = signed_in(width=width, height=SIZES[width], scheme=scheme)
    for address, heading in views.items():
        found.page.goto(f"/{address}")
        expect(found.page.get_by_role("heading", name=heading, level=1)).to_be_visible()
        assert CANARY not in whole(found.page).content()
        found.check()
    background = found.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) > 382) == (scheme == "light")


def test_no_answer_has_the_secret(app, headers, sweep):
    parts = ("", "/summary", "/trials", "/runs", "/metrics", "/report", "/artifacts", "/logs")
    paths = [f"/api/v1/jobs/{sweep}{part}" for part in parts] + [
        "/metrics",
        "/version",
        "/api/v1/schema",
        "/api/v1/jobs",
    ]
    answers = {path: app.http.get(path, headers=headers) for path in paths}
    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(paths, 200)
    assert not [path for path, answer in answers.items() if CANARY in answer.text]


def test_the_page_goes_on_once_the_service_answers_again(app, headers, signed_in):
    found = signed_in()
    page, alert = found.page, found.page.get_by_role("alert").first
    page.context.set_offline(True)
    expect(alert).to_contain_text("The service does not answer")
    page.context.set_offline(False)
    service_jobs.submit(app, headers, label="while it was away")
    expect(page.get_by_role("row", name="while it was away")).to_be_visible()
    expect(alert).to_have_count(0)
    page.context.set_offline(True)
    page.get_by_role("link", name="Submit", exact=True).click()
    expect(alert).to_contain_text("The service does not answer")
    page.context.set_offline(False)
    expect(page.get_by_role("heading", name="Submit a job")).to_be_visible()
    expect(alert).to_have_count(0)
    found.faults = [fault for fault in found.faults if "ERR_INTERNET_DISCONNECTED" not in fault]


def test_a_view_that_is_left_before_it_is_drawn_replaces_no_other(signed_in):
    page, held = signed_in().page, []
    page.route("**/api/v1/schema", lambda route: held.append(route))  # a method of a list cannot be a handler
    with page.expect_request("**/api/v1/schema"):
        page.get_by_role("link", name="Submit", exact=True).click()
    page.get_by_role("link", name="Jobs", exact=True).click()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    with page.expect_request("**/api/v1/searches"):  # which the form asks for once it is drawn
        held[0].continue_()
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")


def test_another_owners_job_is_not_shown(app, signed_in):
    other = service_jobs.submit(app, app.headers("eve"))
    page = signed_in(f"#/jobs/{other}").page
    expect(page.get_by_role("alert").first).to_have_text(f"there is no job {other}")
