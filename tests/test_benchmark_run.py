"""`python -m benchmarks.run`: which ratios moved, and the file of committed ones."""

import json
import sys

import pytest

from benchmarks import run


def line(benchmark, *, commit="a", **figures):
    return {"benchmark": benchmark, **figures, "n": 3, "hardware": "two cores", "torch": "2.11.0", "commit": commit}


def ratio(low, middle, high):
    return {"median": middle, "min": low, "max": high}


def test_a_ratio_moved_if_its_two_ranges_have_no_value_in_common():
    before = [line("step", cohort="a", ratio_to_evident={"fp32": ratio(1.1, 1.2, 1.3), "bf16": ratio(2.0, 2.1, 2.2)})]
    overlapping = {"fp32": ratio(1.3, 1.4, 1.5), "bf16": ratio(1.0, 1.5, 2.0)}
    assert run.moves(before, [line("step", commit="b", cohort="a", ratio_to_evident=overlapping)]) == []
    apart = {"fp32": ratio(1.31, 1.4, 1.5), "bf16": ratio(1.0, 1.5, 1.99)}
    moved = run.moves(before, [line("step", commit="b", cohort="a", ratio_to_evident=apart)])
    assert [str(move) for move in moved] == [
        "step a ratio_to_evident fp32: 1.2 (1.1 to 1.3) → 1.4 (1.31 to 1.5)",
        "step a ratio_to_evident bf16: 2.1 (2 to 2.2) → 1.5 (1 to 1.99)",
    ]


def test_other_cases_numbers_of_peers_and_figures_that_are_no_ratios_are_not_compared():
    small, large = ratio(1.0, 1.0, 1.0), ratio(9.0, 9.0, 9.0)
    losses = {
        "cases": [{"peers": 2, "times_faster": small, "seconds": {"ours": 1.0}}, {"peers": 4, "times_faster": large}]
    }
    before = [line("losses", **losses), line("service", case="rates", database="sqlite", get={"rate_ratio": small})]
    assert list(run.ratios_of(before)) == [
        "losses cases peers=2 times_faster",
        "losses cases peers=4 times_faster",
        "service rates sqlite get rate_ratio",
    ]
    now = [
        line("losses", cases=[{"peers": 8, "times_faster": large, "ready_s": {"median": 1.0, "max": 2.0}}]),
        line("service", case="rates", database="postgresql", get={"rate_ratio": large}),
    ]
    assert run.moves(before, now) == []
    assert run.moves(before, before) == []


def test_new_lines_replace_those_of_the_same_benchmark(tmp_path):
    file = tmp_path / "run.jsonl"
    assert run.read(file) == []
    step, losses, later = line("step", cohort="a"), line("losses"), line("step", commit="b", cohort="b")
    run.write(file, [step, losses])
    run.write(file, [later])
    assert run.read(file) == [losses, later]


@pytest.mark.slow
def test_a_benchmark_is_run_compared_and_written(tmp_path, monkeypatch, capsys):
    """Its ratios are compared with those on record, in ranges that nothing measured can be in."""
    monkeypatch.setattr(run, "COMMITTED", tmp_path / "run.jsonl")
    monkeypatch.setattr(run, "COMMANDS", {"losses": ["--repeats=2", "--peers", "2", "--batch", "8", "--dim", "4"]})
    monkeypatch.setattr(sys, "argv", ["benchmarks.run", "losses", "--write"])
    with pytest.raises(SystemExit, match="0"):
        run.main()
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == "0 of 0 ratios moved by more than their spread"
    assert [json.loads(one) for one in lines] == run.read(run.COMMITTED)
    (found,) = run.read(run.COMMITTED)
    found["cases"][0]["times_faster"] = ratio(1e6, 1e6, 1e6)
    run.write(run.COMMITTED, [found])
    monkeypatch.setattr(sys, "argv", ["benchmarks.run"])
    with pytest.raises(SystemExit, match="1"):
        run.main()
    *_, moved, last = capsys.readouterr().out.splitlines()
    assert moved.startswith("losses cases peers=2 times_faster: 1e+06 (1e+06 to 1e+06) → ")
    assert last == "1 of 1 ratios moved by more than their spread"
