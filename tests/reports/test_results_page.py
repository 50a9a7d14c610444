"""The page of a results folder in a real browser: tags, filter, comparison, and the commands that it shows."""

import pytest

from mcl_ray.reports.page import Section, render
from mcl_ray.reports.results_page import write_index
from mcl_ray.results.tags import change_tags
from tests.support.browser import chromium, new_context
from tests.support.synthetic import spec, write_run, write_sweep


@pytest.mark.slow
def test_runs_are_found_by_tags_and_compared(tmp_path):
    sweep = write_sweep(tmp_path, [{"losses.alpha": 0.1}, {"losses.alpha": 0.2}], epochs=2)
    plain = write_run(tmp_path, spec(epochs=2, tau=0.2), splits=("test",))
    other = write_run(tmp_path, spec(num_peers=4, epochs=2), splits=("test",))
    change_tags(tmp_path / "runs" / other, add=["paper:v1"])
    page_file, faults = write_index(tmp_path), []
    with chromium() as browser:
        page = new_context(browser, width=390, height=844, scheme="dark").new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(page_file.as_uri())
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390
        rows = page.locator("tr[id]")
        assert rows.count() == 4
        page.get_by_label("filter runs").fill("paper:v1 finished")
        assert rows.filter(visible=True).evaluate_all("rows => rows.map((row) => row.id)") == [other]
        page.get_by_label("filter runs").fill("")
        for run in (plain, other):
            page.get_by_label(f"choose {run}").check()
        compared = page.locator("#chosen tbody tr").evaluate_all(
            "rows => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"
        )
        fields = {name: sorted(values) for name, *values in compared}
        assert fields["losses.tau"] == ["0.1", "0.2"]
        assert fields["cohort.size"] == ["2", "4"]
        assert "schedule.epochs" not in fields, "it is the same"
        assert len(fields["test top-1 (%), mean of peers"]) == 2
        commands = page.locator("#chosen pre").text_content().splitlines()
        assert commands[0].startswith("mcl runs compare ")
        assert set(commands[-1].split()) == {"mcl", "runs", "delete", plain, other}
        page.get_by_label(f"choose {sweep.name}-0000-r0").check()
        deleted = page.locator("#chosen pre").text_content().splitlines()[-1]
        assert sweep.name in deleted.split(), "a run of a sweep is deleted with it"
    assert faults == []


@pytest.mark.slow
def test_a_table_is_sorted_by_dates_durations_and_numbers(tmp_path):
    columns = {
        "started": ["2026-01-02 09:00", "2026-01-02 10:00", "2026-03-01 08:00"],
        "time": ["12.3 s", "3 min 20 s", "1 h 02 min", "5 d 03 h"],
        "parameters": ["9", "77,000", "1,200,000"],
        "figure": ["61.67 (epoch 1)", "95.99 ± 0.20 %", "–"],
    }
    file = tmp_path / "page.html"
    mixed = {name: cells[1::2] + cells[::2] for name, cells in columns.items() if name != "figure"}
    mixed["figure"] = ["–", "95.99 ± 0.20 %", "61.67 (epoch 1)"]
    sections = [Section(title=name, headers=(name,), cells=[[cell] for cell in mixed[name]]) for name in columns]
    file.write_text(render("Sorted", {}, sections))
    with chromium() as browser:
        page = new_context(browser, width=800, height=600, scheme="light").new_page()
        page.goto(file.as_uri())
        for name, cells in columns.items():
            page.get_by_role("button", name=name).click()
            table = page.locator("section", has=page.get_by_role("heading", name=name))
            assert table.locator("tbody td").all_text_contents() == cells


def test_texts_of_results_are_no_html(tmp_path):
    write_sweep(tmp_path, [{"losses.alpha": 0.1}], name="</script><b>x", epochs=1)
    page = write_index(tmp_path).read_text()
    assert "</script><b>x" not in page
