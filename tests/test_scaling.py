"""`python -m benchmarks.scaling`: its series at a small size, their exponents, and the table of its committed lines."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import scaling

ROOT = Path(__file__).parents[1]


def medians(found):
    return [case["median"] for case in found["cases"]]


@pytest.mark.slow
def test_a_small_run_has_every_series_with_exponents_and_shares_that_follow_from_its_figures():
    command = [sys.executable, "-m", "benchmarks.scaling", "--small", "--repeats", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [json.loads(one) for one in done.stdout.splitlines()]
    assert [(one["size"], one["figure"]) for one in lines] == list(scaling.MEANINGS)
    assert {(one["benchmark"], one["n"], one["threads"]) for one in lines} == {("scaling", 1, 1)}
    for one in lines:
        sizes = [case[one["size"]] for case in one["cases"]]
        assert sizes == list(getattr(scaling.SMALL, one["size"]))
        assert all(0 < case["min"] <= case["median"] <= case["max"] for case in one["cases"])
        first, last = medians(one)
        slope = math.log(last / first) / math.log(sizes[1] / sizes[0])
        assert one["exponent"] == pytest.approx({"all": slope, "last": slope}, abs=0.01)
    (memory,) = (one for one in lines if (one["size"], one["figure"]) == ("runs", "peak_mib"))
    one_run, four_runs = medians(memory)
    assert four_runs > one_run, "each peak is that of its own process"
    assert memory["mib_each"]["all"] == pytest.approx((four_runs - one_run) / 3, abs=0.01)
    shares, sharing = memory["of_processes"], memory["of_processes_sharing_files"]
    assert shares[0]["median"] == sharing[0]["median"] == 1
    assert shares[1]["median"] == pytest.approx(four_runs / (4 * one_run), rel=0.01)
    assert shares[1]["median"] < sharing[1]["median"] < 1


def test_exponents_are_those_of_powers():
    sizes = (1, 2, 4, 8)
    for power in (0, 0.5, 1, 2):
        assert scaling.exponents(sizes, [3 * size**power for size in sizes]) == {"all": power, "last": power}
    assert scaling.exponents(sizes, [5, 5, 5, 20]) == {"all": 0.6, "last": 2.0}


def test_a_series_has_the_spread_of_each_size():
    found = scaling.series("peers", "step_ms", (1, 2), [[3.0, 1.0, 2.0], [4.0, 4.0, 9.0]])
    assert found["cases"] == [
        {"peers": 1, "median": 2.0, "min": 1.0, "max": 3.0},
        {"peers": 2, "median": 4.0, "min": 4.0, "max": 9.0},
    ]
    assert found["exponent"] == {"all": 1.0, "last": 1.0}


def test_pages_of_files_are_counted_once_for_all_processes():
    peaks = [[scaling.Peak(mib=100, files_mib=60)], [scaling.Peak(mib=112, files_mib=60)]]
    apart, sharing = ([share["median"] for share in own] for own in scaling.beside_processes((1, 2), peaks).values())
    assert (apart, sharing) == ([1, 0.56], [1, 0.8])


def test_the_table_of_the_documentation_is_that_of_the_committed_lines(monkeypatch, capsys):
    file = ROOT / "benchmarks" / "results" / "scaling.jsonl"
    monkeypatch.setattr(sys, "argv", ["scaling", "--markdown", str(file)])
    scaling.main()
    assert capsys.readouterr().out in (ROOT / "docs" / "growth.md").read_text()
