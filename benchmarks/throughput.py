"""Benchmark of whole sweeps: trials per hour and peak memory, with and without `--pack`, beside two other ways.

    python -m benchmarks.throughput [--trials 100] [--repeats 1] [--commit c5bbcbf]

Prints one JSON line. Four ways train the digits recipe (resnet8 ×2, 12 epochs, batch 40) with weights sampled at random
and without early stopping, in turns, after two trials of each that are not counted:

    auto     the command of this checkout with `--pack auto`
    off      the same with `--pack off`
    COMMIT   the command of an earlier commit, from this repository's history
    bare     Ray Tune with the straightforward step (`benchmarks/bare_tune.py`), with actors that are reused

Each trial has one core and one thread, and as many train at once as there are cores. A way is one command, from its
start to its end; its CPU time and memory are those of all processes that it starts (`benchmarks/process_tree.py`).
Fails if a way has not trained every trial to its last epoch. OMP_NUM_THREADS is taken from the environment, as Ray sets
it for its workers; this process does not load torch, whose pages in memory it would share with what is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.commits import CHECKOUT, extract
from benchmarks.process_tree import Usage, measure
from benchmarks.record import print_line, ratios
from mcl_ray.results.store import read_runs

EARLIER = "c5bbcbf"
AUTO, OFF, BARE = "auto", "off", "bare"
EPOCHS = 12
WARM_TRIALS = 2
SEARCH = ("scheduler.kind=none", "sampler.kind=random", "space.cohort.size=null")
ALONE = ("confirm.configurations=0", "baseline={}")
"""Nothing but the trials; earlier commits have neither field."""
BARE_FILE = "epochs.json"
"""File of the epochs of each trial of bare Tune."""


class Way(NamedTuple):
    """One way to run the sweep."""

    tree: Path
    """Folder with the code."""
    arguments: Callable[[int, Path], list[str]]
    """From the number of trials and the folder of the results to the arguments of Python."""


def ways(commit: str, tree: Path) -> dict[str, Way]:
    """Return all ways by name.

    Args:
        commit: Name of the earlier commit.
        tree: Folder with its code.
    """

    def command(*options: str) -> Callable[[int, Path], list[str]]:
        sweep = ["-m", "mcl_ray.sweep", "digits", *SEARCH]
        return lambda trials, out: [*sweep, f"trials={trials}", *options, "--results", str(out)]

    return {
        AUTO: Way(CHECKOUT, command(*ALONE, "--pack", "auto")),
        OFF: Way(CHECKOUT, command(*ALONE, "--pack", "off")),
        commit: Way(tree, command()),
        BARE: Way(
            CHECKOUT, lambda trials, out: ["-m", "benchmarks.throughput", "--bare", str(out), "--trials", str(trials)]
        ),
    }


def run(way: Way, trials: int) -> Usage:
    """Run the sweep in one way.

    Raises:
        RuntimeError: the command failed, or has not trained every trial to its last epoch.
    """
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, *way.arguments(trials, Path(out))]
        usage = measure(command, way.tree, environment | {"PYTHONPATH": str(way.tree)})
        check_epochs(trained_epochs(Path(out)), trials)
    return usage


def trained_epochs(folder: Path) -> list[int]:
    """Return the number of epochs of each trial that has finished, in any way."""
    if (file := folder / BARE_FILE).exists():
        return [int(epochs) for epochs in json.loads(file.read_text())]
    return [row["epochs_done"] for row in read_runs(folder).to_pylist() if row["state"] == "finished"]


def check_epochs(epochs: Sequence[int], trials: int) -> None:
    """Check that every trial has been trained to its last epoch, and that there was no other.

    Raises:
        RuntimeError: it has not.
    """
    if list(epochs) != [EPOCHS] * trials:
        raise RuntimeError(f"{trials} trials must finish with {EPOCHS} epochs, but their epochs are {list(epochs)}")


def compare(usages: Mapping[str, Sequence[Usage]], trials: int) -> dict[str, object]:
    """Return the figures of all ways, and the ratios of this checkout to the others.

    Args:
        usages: Way → what each repeat has used; the two of this checkout come first.
        trials: Number of trials.
    """
    pairs = [(ours, other) for ours in (AUTO, OFF) for other in usages if other not in (ours, AUTO)]
    walls = {name: [one.wall_s for one in repeats] for name, repeats in usages.items()}
    peaks = {name: [one.peak_bytes for one in repeats] for name, repeats in usages.items()}
    return {
        "wall_s": {name: round(statistics.median(each), 2) for name, each in walls.items()},
        "trials_per_hour": {name: round(3600 * trials / statistics.median(each), 1) for name, each in walls.items()},
        "cpu_s": {name: round(statistics.median(one.cpu_s for one in each), 2) for name, each in usages.items()},
        "peak_mib": {name: round(statistics.median(each) / 2**20, 1) for name, each in peaks.items()},
        "processes": {name: statistics.median(one.processes for one in each) for name, each in usages.items()},
        "trials_per_hour_ratio": {f"{a} to {b}": ratios(walls[b], walls[a]) for a, b in pairs},
        "peak_memory_ratio": {f"{a} to {b}": ratios(peaks[a], peaks[b]) for a, b in pairs},
    }


def main() -> None:
    """Measure all ways in turns, or run bare Ray Tune."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--commit", default=EARLIER, help="commit to compare with")
    parser.add_argument("--bare", type=Path, metavar="OUT", help="run bare Ray Tune, with its results in this folder")
    asked = parser.parse_args()
    if asked.bare is not None:
        from benchmarks import bare_tune  # sets Ray's environment, which the other commands set themselves

        (asked.bare / BARE_FILE).write_text(json.dumps(bare_tune.search(asked.trials, asked.bare)))
        return
    with tempfile.TemporaryDirectory() as folder:
        extract(asked.commit, Path(folder))
        each = ways(asked.commit, Path(folder))
        for way in each.values():
            run(way, WARM_TRIALS)
        usages: dict[str, list[Usage]] = {name: [] for name in each}
        for _ in range(asked.repeats):
            for name, way in each.items():
                usages[name].append(run(way, asked.trials))
    figures = {"trials": asked.trials, "cpus": os.cpu_count()} | compare(usages, asked.trials)
    print_line("throughput", figures, n=asked.repeats)


if __name__ == "__main__":
    main()
