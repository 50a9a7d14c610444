"""`CohortTuner`: runs a search, or the suite of a published table, on Ray Tune with Optuna."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel

from mcl_ray.callbacks import SweepCallback
from mcl_ray.config.execution import ExecutionOptions
from mcl_ray.errors import SpecError
from mcl_ray.pipeline import import_named_plugins
from mcl_ray.sdk.options import Overrides, RunOptions, assignments, checked, split_keywords
from mcl_ray.sdk.sweep import Sweep, located

if TYPE_CHECKING:
    from searches.kinds import Estimate
    from searches.resumption import Resumption
    from searches.spec.experiment import Experiment
    from searches.sweep_runner import SweepRunner

INSTEAD = {"threads": "cpus_per_worker=N sets the threads of a trial", "resume": "CohortTuner.restore resumes a sweep"}
"""Option of CohortTrainer → what a tuner has instead."""


class CohortTuner:
    """Searches for the best configuration of a cohort, or trains every row of a suite.

    Example:
        >>> space = {"losses.tau": {"kind": "float", "low": 0.05, "high": 1.0}}
        >>> sweep = CohortTuner("digits", trials=40, space=space).fit()
        >>> sweep.ranking()
        >>> sweep = CohortTuner.restore("results/sweeps/digits-0123456789-1", more_trials=10).fit()

    A tuner prints nothing and can be used in any thread. Ctrl-C interrupts a sweep, which can then be restored.
    """

    def __init__(
        self,
        search: str | Path | BaseModel,
        /,
        *,
        space: Mapping[str, Any] | None = None,
        overrides: Overrides | None = None,
        callbacks: Sequence[SweepCallback] = (),
        **fields_and_options: Any,
    ) -> None:
        """Create a tuner of a new sweep; nothing is read or written before `fit`.

        Args:
            search: Name of a search, path of a search file, or a `SweepSpec` or `SuiteSpec`.
            space: Field → the values it may take, `{"kind": "float", "low": 0.0, "high": 1.0}` or an object of
                `searches.spec.space`. Entries are added to the search's own space or replace them; None removes one.
            overrides: Fields to replace, by full path, `{"cohort.size": 4}`, or as `["cohort.size=4"]`.
            callbacks: Receive the events of the sweep.
            **fields_and_options: Options of execution (`results`, `workers`, `download` …); every other keyword is a
                field of the search or of its run, by its name: `trials=40, epochs=5`.

        Raises:
            SpecError: there is no such search, or a rule is broken.
        """
        options, fields = _split(fields_and_options)
        self._prepare(options.execution, callbacks, download=options.download)
        given = (*assignments(fields, overrides), *_space_assignments(space))
        self._experiment: Experiment | None = _resolved(_load_search, search, given)

    @classmethod
    def suite(
        cls,
        suite: str | Path | BaseModel,
        /,
        *,
        rows: Sequence[str] | Mapping[str, Any] | None = None,
        overrides: Overrides | None = None,
        callbacks: Sequence[SweepCallback] = (),
        **fields_and_options: Any,
    ) -> Self:
        """Return a tuner that trains the rows of a published table.

        Args:
            suite: Name of a suite, path of a suite file, or a `SuiteSpec`.
            rows: Names of the rows to train, `["resnet32_*"]`, or rows by their names; None: all.
            overrides: Fields to replace, as of the constructor.
            callbacks: Receive the events of the sweep.
            **fields_and_options: As of the constructor.

        Raises:
            SpecError: there is no such suite, or a rule is broken.
        """
        options, fields = _split(fields_and_options)
        given = assignments(fields if rows is None else fields | {"rows": rows}, overrides)
        tuner = cls.__new__(cls)
        tuner._prepare(options.execution, callbacks, download=options.download)
        tuner._experiment = _resolved(_load_suite, suite, given)
        return tuner

    @classmethod
    def restore(
        cls,
        sweep: str | Path,
        /,
        *,
        spec: str | Path | BaseModel | None = None,
        is_suite: bool = False,
        more_trials: int = 0,
        retry_failed: bool = False,
        overrides: Overrides | None = None,
        callbacks: Sequence[SweepCallback] = (),
        **fields_and_options: Any,
    ) -> Self:
        """Return a tuner that resumes a sweep, finished or not.

        Args:
            sweep: Folder or URI of the sweep; or its id, or `latest`, in the folder that the option `results` names.
            spec: Search or suite that the sweep must agree with, in all but trials, time_limit_s and keep_checkpoints,
                which it may raise; None: the sweep's own.
            is_suite: Whether `spec` names a suite.
            more_trials: Number of trials to run beside those that the sweep has.
            retry_failed: Whether failed trials and further seeds are tried again, from their last checkpoints; also
                those of the linear classification that follows a suite without labels.
            overrides: Fields to replace; they may raise trials, time_limit_s and keep_checkpoints.
            callbacks: Receive the events of the sweep.
            **fields_and_options: As of the constructor.
        """
        options, fields = _split(fields_and_options)
        given = assignments(fields, overrides)
        sweep_id, execution = located(sweep, options.execution)
        tuner = cls.__new__(cls)
        tuner._prepare(execution, callbacks, download=options.download)
        tuner._sweep_id, tuner._retry_failed = sweep_id, retry_failed

        def change(experiment: Experiment) -> Experiment:
            if spec is not None:
                experiment = _resolved(_load_suite if is_suite else _load_search, spec, given)
            elif given:
                experiment = experiment.with_overrides(given)
            return experiment.with_more_trials(more_trials) if more_trials else experiment

        tuner._change = change
        return tuner

    @property
    def experiment(self) -> Experiment:
        """Search or suite that is run; of a tuner made by `restore`, as it will be from now on."""
        return self.resumption().experiment if self._experiment is None else self._experiment

    def fit(self) -> Sweep:
        """Run the sweep to its end, and return its results; what follows a suite without labels is run, too.

        Raises:
            UserError: the spec, the data, the results folder, the study's database or the cluster cannot be used.
            TrainingError: no trial has a score.
            KeyboardInterrupt: the sweep was interrupted; it can be restored.
        """
        runner = self._runner()
        if self._experiment is not None:
            folders = runner.start(self._experiment)
        else:
            folders = runner.resume(self._sweep_id, self._change, retry_failed=self._retry_failed)
        return Sweep(folders[0], following=[Sweep(folder) for folder in folders[1:]])

    def estimate(self) -> Estimate:
        """Return the resources that the sweep needs; nothing is written.

        Raises:
            UserError: the spec or the data set cannot be used.
        """
        from searches.kinds import behaviour_of

        experiment = self.experiment
        return behaviour_of(experiment).estimate(experiment, self._execution)

    def resumption(self) -> Resumption:
        """Return what resuming will do, of a tuner made by `restore`; nothing is written.

        Raises:
            StoreError: there is no such sweep.
            SpecError: the spec may not change in this way, or trials remain but no time.
        """
        return self._runner().plan(self._sweep_id, self._change, retry_failed=self._retry_failed)

    def _prepare(self, execution: ExecutionOptions, callbacks: Sequence[SweepCallback], *, download: bool) -> None:
        self._execution, self._download = execution, download
        self._callbacks = checked(callbacks, SweepCallback)
        self._experiment = None
        self._sweep_id, self._retry_failed = "", False
        self._change: Callable[[Experiment], Experiment] = lambda experiment: experiment

    def _runner(self) -> SweepRunner:
        from searches.sweep_runner import SweepRunner

        callbacks = [*self._callbacks, *_notebook_callbacks()]
        return SweepRunner(execution=self._execution, callbacks=callbacks, download=self._download)


def _resolved(load: Callable[[str], Experiment], spec: str | Path | BaseModel, overrides: Sequence[str]) -> Experiment:
    """Return the experiment of this name, file or object with fields replaced."""
    import_named_plugins(spec if isinstance(spec, BaseModel) else str(spec), overrides)
    experiment: Any = spec if isinstance(spec, BaseModel) else load(str(spec))
    if not hasattr(experiment, "with_overrides"):
        raise SpecError(f"a tuner needs a name, a file, a SweepSpec or a SuiteSpec, but got {type(spec).__name__}")
    resolved: Experiment = experiment.with_overrides(overrides).with_named_plugins()
    return resolved


def _split(keywords: Mapping[str, Any]) -> tuple[RunOptions, dict[str, Any]]:
    """Split keyword arguments into options and fields.

    Raises:
        SpecError: an option would have no effect.
    """
    for name, instead in INSTEAD.items():
        if name in keywords:
            raise SpecError(f"`{name}` is an option of CohortTrainer; {instead}, but got {name}={keywords[name]!r}")
    return split_keywords(keywords)


def _load_search(name: str) -> Experiment:
    from searches.spec import search_registry

    return search_registry.load(name)


def _load_suite(name: str) -> Experiment:
    from searches.spec import suite_registry

    return suite_registry.load(name)


def _space_assignments(space: Mapping[str, Any] | None) -> tuple[str, ...]:
    if not isinstance(space, Mapping | None):
        raise SpecError(f"`space` must be a mapping of fields to the values that they may take, but got {space!r}")
    entries = {
        f"space.{path}": entry.model_dump(mode="json") if isinstance(entry, BaseModel) else entry
        for path, entry in (space or {}).items()
    }
    return assignments({}, entries)


def _notebook_callbacks() -> list[SweepCallback]:
    """Return a progress bar if this process is the kernel of a notebook."""
    from mcl_ray.reports.notebook import is_notebook

    if not is_notebook():
        return []
    from mcl_ray.reports.sweep_notebook import NotebookSweepProgress

    return [NotebookSweepProgress()]
