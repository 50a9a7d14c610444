"""The console script `mcl`: every front door under one name."""

from __future__ import annotations

from mcl_ray import doors

DOORS = {
    "train": ("mcl_ray.train:train", "Train one cohort."),
    "sweep": ("mcl_ray.sweep:app", "Search for the best configuration on Ray Tune with Optuna."),
    "report": ("mcl_ray.report:report", "Print the ranking or the run's figures, and write plots and a page."),
    "table": ("mcl_ray.table:table", "Print a published table, and beside it what our runs reached."),
    "export": ("mcl_ray.export:export", "Export a trained network: tensors, a program, a model card."),
    "recipes": ("mcl_ray.listing:recipes", "List the recipes: runs known by name."),
    "fields": ("mcl_ray.listing:fields", "List every field of a run, of a search and of a suite."),
    "searches": ("mcl_ray.listing:searches", "List the searches: sweeps known by name."),
    "suites": ("mcl_ray.listing:suites", "List the suites: tables whose rows are known by name."),
}
"""Name → where it is, which is imported only when it is called, and what it does."""


def main() -> None:
    """Run `mcl`."""
    app = doors.new_app("mcl", "Train and tune cohorts of networks that teach each other.")
    for name, (door, told) in DOORS.items():
        app.command(door, name=name, help=told)
    doors.main(app)


if __name__ == "__main__":
    main()
