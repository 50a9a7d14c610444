"""`Sweep`: the results of a search or a suite, read from its folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.config.scoring import Scoring
from mcl_ray.errors import StoreError
from mcl_ray.object_store import Uri

if TYPE_CHECKING:
    import optuna

    from mcl_ray.analysis.ranking import Ranked
    from mcl_ray.sdk.run import Run
    from searches.spec.experiment import Experiment


class Sweep:
    """The results of a sweep; every access reads the current records, also while the sweep runs.

    Example:
        >>> sweep = Sweep.open("latest")
        >>> sweep.ranking()[0].searched, sweep.best.metrics
    """

    def __init__(self, folder: Path, *, following: Sequence[Sweep] = ()) -> None:
        """Open the sweep in `folder`.

        Raises:
            StoreError: there is no sweep.
        """
        from mcl_ray.results.reader import is_sweep

        if not is_sweep(folder):
            raise StoreError(f"a sweep must have a record, but {folder} has none")
        self.folder = folder
        """Folder of the sweep."""
        self.following = tuple(following)
        """Sweeps that followed a suite without labels: linear classification of its networks."""

    @classmethod
    def open(cls, sweep: str | Path, *, results: str | Path = ExecutionOptions.results) -> Sweep:
        """Return a sweep by its folder, its URI, or its id below `results`; `latest` is the newest there.

        Raises:
            StoreError: there is no such sweep.
        """
        from mcl_ray.results.remote import pull
        from mcl_ray.results.store import find_sweep

        sweep_id, execution = located(sweep, ExecutionOptions(results=_results(results)))
        environment = execution.environment()
        if environment.store is not None:
            pull.open_replica(environment.store)
        pull.fetch(environment.results / "sweeps", only=pull.is_of_sweep)
        folder = find_sweep(environment.results, sweep_id)
        pull.fetch(folder)
        return cls(folder)

    @property
    def sweep_id(self) -> str:
        """Id of the sweep."""
        return self.folder.name

    @property
    def state(self) -> str:
        """State of the sweep: running, finished, failed or interrupted."""
        return str(self._record["state"])

    @property
    def spec(self) -> Experiment:
        """Spec of the search or suite."""
        from searches.spec.stored_spec import parse_stored

        return parse_stored(self._record["spec"])

    def ranking(self) -> list[Ranked]:
        """Return the configurations, best first."""
        from mcl_ray.analysis.sweep_ranking import rank_sweep

        return list(rank_sweep(self.folder).rows)

    @property
    def best(self) -> Run:
        """Run of the best configuration, of its seeds the one with the best figure.

        Raises:
            StoreError: no configuration has a score.
        """
        from mcl_ray.analysis.ranking import best_of

        best = best_of(self.ranking())
        if best is None:
            raise StoreError(f"the best run must have a score, but no configuration of {self.folder} has one")
        return self._run(best.run_ids[0])

    def runs(self) -> list[Run]:
        """Return all runs, sorted by their ids."""
        from mcl_ray.results.store import read_runs

        return [self._run(run_id) for run_id in sorted(read_runs(self.folder)["run_id"].to_pylist())]

    def report(self) -> list[Path]:
        """Write figures and a page, and return their paths."""
        from mcl_ray.reports.build import write_report
        from mcl_ray.results.remote.pull import push
        from searches.importance import importances

        files = write_report(self.folder, importances)
        push(files)
        return files

    @property
    def study(self) -> optuna.Study:
        """Optuna study of the sweep, opened from its database.

        Raises:
            StoreError: the database cannot be opened, or has no such study.
        """
        import optuna

        from searches.tune.optuna_exporter import open_storage, study_name, study_url

        storage, name = open_storage(study_url(self.spec, self.folder)), study_name(self.folder)
        try:
            return optuna.load_study(study_name=name, storage=storage)
        except KeyError as error:
            raise StoreError(f"the study's database must have the study {name}, but has not") from error

    @property
    def _record(self) -> dict[str, Any]:
        from mcl_ray.results.store import read_sweeps

        (row,) = read_sweeps(self.folder).to_pylist()
        record: dict[str, Any] = row
        return record

    @property
    def _scoring(self) -> Scoring:
        return Scoring.parse(self._record["spec"])

    def _run(self, run_id: str) -> Run:
        from mcl_ray.sdk.run import Run

        return Run(self.folder / "runs" / run_id)

    def __repr__(self) -> str:
        return f"Sweep({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        from mcl_ray.analysis.sweep_ranking import rank_sweep
        from mcl_ray.reports.improvement import improvement_line
        from mcl_ray.reports.notebook import html_facts, html_table
        from mcl_ray.reports.terminal import ranking_cells

        ranked = rank_sweep(self.folder)
        headers, cells = ranking_cells(ranked.rows, ranked.objective, ranked.mode, ranked.scoring)
        facts = {"state": ranked.sweep["state"], "objective": ranked.objective}
        if ranked.improvement is not None:
            facts = {"result": improvement_line(ranked.improvement, ranked.objective)} | facts
        return html_facts(f"Sweep {self.sweep_id}", facts) + html_table(headers, cells)


def located(sweep: str | Path, execution: ExecutionOptions) -> tuple[str, ExecutionOptions]:
    """Return a sweep's id, and the options with the results folder that holds it; sweeps are in its folder `sweeps`.

    Args:
        sweep: Folder or URI of a sweep; its id, or `latest`.
        execution: Options whose results folder holds an id.
    """
    location, mark, query = str(sweep).partition("?")
    parent, _, sweep_id = location.rstrip("/").rpartition("/")
    if not parent:
        return sweep_id, execution
    root = "." if parent == "sweeps" else parent.removesuffix("/sweeps")
    return sweep_id, dataclasses.replace(execution, results=_results(f"{root}{mark}{query}"))


def _results(root: str | Path) -> Uri | Path:
    text = str(root)
    return Uri(text) if "://" in text else Path(text)
