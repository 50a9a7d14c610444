"""The console script `mcl`: every command under one name."""

from __future__ import annotations

import sys
from pathlib import Path

from cyclopts import App

from mcl_ray.cli import app
from mcl_ray.interruption import handle_signals

COMMANDS = {
    "train": ("mcl_ray.cli.train:train", "Train one cohort."),
    "sweep": ("mcl_ray.cli.sweep:command", "Search for the best configuration on Ray Tune with Optuna."),
    "report": ("mcl_ray.cli.report:report", "Print the ranking or the run's figures, and write plots and a page."),
    "runs": ("mcl_ray.cli.runs:command", "List, compare, tag and delete recorded runs."),
    "table": ("mcl_ray.cli.table:table", "Print a published table, and beside it what our runs reached."),
    "export": ("mcl_ray.cli.export:export", "Export a trained network: tensors, a program, a model card."),
    "recipes": ("mcl_ray.cli.listing:recipes", "List the recipes: runs known by name."),
    "fields": ("mcl_ray.cli.listing:fields", "List every field of a run, of a search and of a suite."),
    "searches": ("mcl_ray.cli.listing:searches", "List the searches: sweeps known by name."),
    "suites": ("mcl_ray.cli.listing:suites", "List the suites: tables whose rows are known by name."),
    "monitor": ("mcl_ray.cli.monitor:monitor", "Serve the Optuna dashboard of a sweep on this machine."),
    "serve": ("mcl_ray.cli.serve:command", "Run the service that takes jobs over HTTP and runs them on Ray."),
    "submit": ("mcl_ray.cli.jobs:submit", "Submit a job to a service."),
    "jobs": ("mcl_ray.cli.jobs:jobs", "List the jobs of a service."),
    "status": ("mcl_ray.cli.jobs:status", "Print all that is known of a job."),
    "logs": ("mcl_ray.cli.jobs:logs", "Print the log of a job."),
    "watch": ("mcl_ray.cli.jobs:watch", "Print the changes of a job's state until it has ended."),
    "cancel": ("mcl_ray.cli.jobs:cancel", "Ask for the end of a job."),
    "retry": ("mcl_ray.cli.jobs:retry", "Submit a job that continues one which failed or was cancelled."),
    "extend": ("mcl_ray.cli.jobs:extend", "Submit a job that gives more trials to a sweep which has ended."),
}
"""Name → function, imported only when the command is called, and help text."""


def main() -> None:
    """Run `mcl` with the arguments of this process, and exit."""
    sys.path.append(str(Path.cwd()))  # as `python -m` does: plugins may lie in the current folder
    if sys.argv[1:2] in (["train"], ["sweep"]):
        handle_signals()
    app.main(program())


def program() -> App:
    """Return the program `mcl` with all its commands."""
    made = app.new_app("mcl", "Train and tune cohorts of networks that teach each other.")
    for name, (function, help_text) in COMMANDS.items():
        made.command(function, name=name, help=help_text)
    return made
