"""A run in the results store."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mcl_ray.config.environment import Environment
from mcl_ray.config.plugins import PluginRecord
from mcl_ray.config.spec import RunSpec
from mcl_ray.results.plugin_info import read_plugins
from mcl_ray.results.remote import pull
from mcl_ray.results.store import read_epochs, read_runs, read_spec
from mcl_ray.sdk.options import location

if TYPE_CHECKING:
    from mcl_ray.analysis.ranking import RunSummary
    from mcl_ray.transfer.member import Member


class Run:
    """A run in the results store, read anew at each access, so that a run in progress can be followed.

    Example:
        >>> run = Run.open("digits-fe38fc1aca-1")
        >>> run.metrics["test/top1/mean"]
    """

    def __init__(self, folder: Path, *, pretraining: Run | None = None) -> None:
        """Refer to a run.

        Args:
            folder: The run's folder.
            pretraining: The run whose networks this one froze, if it was trained by the same call.
        """
        self.folder = folder
        """The run's folder; of a run in a remote store, its replica on this machine."""
        self.pretraining = pretraining
        """The run whose networks this one froze, in a pipeline like moco+lincls; else None."""

    @classmethod
    def open(cls, name: str | Path, *, results: str | Path = Environment.results) -> Run:
        """Open a run.

        Args:
            name: A run's folder, its URI, or its id below `results`; a sweep stands for its best run.
            results: Results folder, or URI of a store.

        Raises:
            StoreError: there is no such run, or the sweep has no best run yet.
        """
        from mcl_ray.results.lookup import named_run

        return cls(named_run(location(name), location(results)))

    @property
    def run_id(self) -> str:
        """The run's id: the name of its folder."""
        return self.folder.name

    @cached_property
    def spec(self) -> RunSpec:
        """The resolved spec."""
        pull.fetch(self.folder)
        return read_spec(self.folder)

    @property
    def plugins(self) -> tuple[PluginRecord, ...]:
        """Plugins that the newest attempt trained with: module, distribution, version and checksum."""
        pull.fetch(self.folder)
        attempts = read_plugins(self.folder)
        return attempts[max(attempts)] if attempts else ()

    @property
    def state(self) -> str:
        """The state: finished, stopped, interrupted, running or failed."""
        return str(self._row["state"])

    @property
    def metrics(self) -> dict[str, float]:
        """The figures of the last epoch that has each: `split/metric/member` → value, accuracies in percent."""
        rows = sorted(self.history.to_pylist(), key=lambda row: row["epoch"])
        return {f"{row['split']}/{row['metric']}/{row['member']}": row["value"] for row in rows}

    @property
    def history(self) -> pa.Table:
        """Every figure of every epoch: columns run_id, attempt, epoch, member, split, metric, value."""
        pull.fetch(self.folder)
        return read_epochs(self.folder)

    @property
    def unreadable(self) -> list[str]:
        """Names of the images that did not decode."""
        from mcl_ray.results.store import read_unreadable

        pull.fetch(self.folder)
        return read_unreadable(self.folder)

    def summary(self) -> RunSummary:
        """Return the record, the accuracies at the last epoch, and the published figure of this setting, if any."""
        from mcl_ray.analysis.ranking import summary

        pull.fetch(self.folder)
        return summary(read_runs(self.folder), read_epochs(self.folder))

    def best_peer(self) -> int:
        """Return the number of the best peer, from 0: highest top-1 of validation, or of test without one.

        Raises:
            StoreError: the run has no accuracy of a peer.
        """
        return self._member("best").peers[0]

    def describe_peer(self, peer: int | str = "best") -> str:
        """Return which network `export` takes, in one line; of the best peer with the figure that it was chosen by.

        Args:
            peer: A peer's number from 0, `best`, or `ensemble`.

        Raises:
            SpecError: there is no such peer.
            StoreError: the run has no accuracy of a peer.
        """
        member = self._member(peer)
        return f"{member.name}: {member.reason}" if member.reason else member.name

    def export(
        self, peer: int | str = "best", out: str | Path | None = None, *, data: str | Path = Environment.data
    ) -> list[Path]:
        """Write a trained network as tensors, a program and a model card, and return the files.

        Args:
            peer: A peer's number from 0, `best`, or `ensemble`.
            out: A folder that does not exist yet or is empty; `export/<peer>` in the run's folder if not given.
            data: The data set, for a run of an early release, which did not record its images.

        Raises:
            SpecError: there is no such peer.
            StoreError: the folder is not empty, or cannot be written.
            CheckpointError: the run has no checkpoint.
        """
        from mcl_ray.transfer.bundle import export_run

        folder = None if out is None else location(out)
        return export_run(self.folder, str(peer), folder, Environment(data=location(data)))

    def report(self) -> list[Path]:
        """Write plots and an HTML page below `report` in the run's folder, and return the files."""
        from mcl_ray.reports.build import write_report

        pull.fetch(self.folder)
        files = write_report(self.folder)
        pull.push(files)
        return files

    def _member(self, peer: int | str) -> Member:
        from mcl_ray.transfer.member import choose

        return choose(str(peer), self.spec, self.history)

    @property
    def _row(self) -> Mapping[str, Any]:
        pull.fetch(self.folder)
        (row,) = read_runs(self.folder).to_pylist()
        return dict(row)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        from mcl_ray.reports.notebook import html_facts, html_table
        from mcl_ray.reports.terminal import describe_run

        summary = self.summary()
        run = summary.run
        title = f"{run['run_id']}: {run['state']}, {run['epochs_done']} of {run['epochs_planned']} epochs"
        rows = [
            (score.member, score.split, score.epoch, f"{score.top1:.2f}", _optional(score.top5))
            for score in summary.scores
        ]
        return html_facts(title, {}) + html_table(summary.headers, rows) + html_facts("", describe_run(summary))


def _optional(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
