"""Work of a job's driver, by kind; every kind resumes what an earlier attempt or job left in its results folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcl_ray.callbacks import RunCallback, notify
from mcl_ray.errors import StoreError
from mcl_ray.jobs import specs
from mcl_ray.jobs.claims import results_of
from mcl_ray.jobs.messages import JobSpec
from mcl_ray.object_store import Uri
from mcl_ray.results.reader import has_ended, is_run, read_sweeps, run_folders, state_of, sweep_folders

if TYPE_CHECKING:
    from mcl_ray.sdk.run import Run

CLUSTER = "auto"
"""The Ray that started this driver."""


def run(spec: JobSpec, root: Uri | Path, callbacks: Sequence[Any]) -> Path:
    """Do what a job asks for, and return its results folder; of a store, the replica on this node.

    Raises:
        MclError: it cannot be done, or failed.
        KeyboardInterrupt: the driver received a signal; what was done is recorded.
    """
    results = results_of(root, spec.origin)
    folder = _local(results)
    match spec.request.kind:
        case "train" | "linear":
            _train(spec, root, results, folder, callbacks)
        case "sweep" | "table":
            _sweep(spec, results, folder, callbacks)
        case "export":
            _export(spec, root, folder, callbacks)
        case "evaluate":
            _evaluate(spec, root, folder)
    return folder


def _train(
    spec: JobSpec, root: Uri | Path, results: Uri | Path, folder: Path, callbacks: Sequence[RunCallback]
) -> None:
    from mcl_ray.sdk.trainer import CohortTrainer

    request = spec.request
    is_on_ray = request.execution.workers is not None
    threads = {} if is_on_ray else {"threads": request.execution.cpus_per_worker}
    trainer = CohortTrainer(
        str(request.name),
        overrides=specs.assignments(request),
        source=None if spec.source_origin is None else _source(spec, root).folder,
        callbacks=callbacks,
        resume=bool(_runs(folder)),
        **_execution(spec, results, is_on_ray=is_on_ray),
        **threads,
    )
    trainer.fit().report()


def _sweep(spec: JobSpec, results: Uri | Path, folder: Path, callbacks: Sequence[Any]) -> None:
    from mcl_ray.sdk.tuner import CohortTuner

    request, options = spec.request, _execution(spec, results, is_on_ray=True) | {"callbacks": callbacks}
    if (folder / "sweeps").is_dir() and (sweeps := read_sweeps(folder).to_pylist()):
        first = folder / "sweeps" / sweeps[0]["sweep_id"]  # the job's own; others follow from it
        failed = any(is_run(path) and state_of(path) == "failed" for path in run_folders(folder))
        overrides = {"trials": specs.total_trials(spec)} if request.kind == "sweep" else {}
        CohortTuner.restore(
            first, retry_failed=failed and spec.continues == "retry", overrides=overrides, **options
        ).fit()
    elif request.kind == "sweep":
        CohortTuner(str(request.name), overrides=specs.assignments(request), **options).fit()
    else:
        CohortTuner.suite(str(request.name), overrides=specs.assignments(request), **options).fit()


def _export(spec: JobSpec, root: Uri | Path, folder: Path, callbacks: Sequence[RunCallback]) -> None:
    target, run, peer = folder / "export", _source(spec, root), spec.request.peer
    notify(callbacks, "on_status", f"exporting {run.run_id}, {run.describe_peer(peer)}")
    if not target.exists():  # it is written whole, or not at all
        run.export(peer, target)


def _evaluate(spec: JobSpec, root: Uri | Path, folder: Path) -> None:
    """Score the newest checkpoint of a run on the test split, into `evaluation.json`; the run stays as it is."""
    from mcl_ray.config.environment import Environment
    from mcl_ray.config.plugins import import_plugins
    from mcl_ray.data.source import dataset_for
    from mcl_ray.results.atomic_io import ensure_writable, write_atomically
    from mcl_ray.results.remote.pull import push
    from mcl_ray.training.recorded_run import score_test_split

    run, execution = _source(spec, root), spec.request.execution
    import_plugins(run.spec.plugins)
    environment = Environment(
        data=_location(spec.data), device=execution.device, readers=execution.readers, threads=execution.cpus_per_worker
    )
    dataset = dataset_for(run.spec, environment)
    epoch, scores = score_test_split(run.spec, dataset, environment, run.folder / "checkpoints")
    content = {"run_id": run.run_id, "epoch": epoch, "scores": [score._asdict() for score in scores]}
    ensure_writable(folder)
    write_atomically(folder / "evaluation.json", json.dumps(content, indent=1).encode())
    push([folder / "evaluation.json"])


def _source(spec: JobSpec, root: Uri | Path) -> Run:
    """Return the run of another job that this one uses: the one that is named, its best, or its only one."""
    from mcl_ray.results.remote import pull
    from mcl_ray.sdk.run import Run

    assert spec.source_origin is not None, "the request was checked"
    results = results_of(root, spec.source_origin)
    folder = pull.pull_replica(results) if isinstance(results, Uri) else results
    found = [path for path in _runs(folder) if path.name == spec.request.run]
    if spec.request.run is None:
        sweeps = sweep_folders(folder)
        found = [Run.open(sweeps[0]).folder] if sweeps else [path for path in _runs(folder) if has_ended(path)]
    if not found:
        raise StoreError(f"the source must have the run {spec.request.run or '(any)'}, but has none")
    pull.fetch(found[-1], checkpoints=True)
    return Run(found[-1])


def _runs(folder: Path) -> list[Path]:
    return run_folders(folder) if (folder / "runs").is_dir() or (folder / "sweeps").is_dir() else []


def _execution(spec: JobSpec, results: Uri | Path, *, is_on_ray: bool) -> dict[str, Any]:
    """Return the options of the Python API; without workers a run is trained by this process."""
    given = spec.request.execution
    options: dict[str, Any] = {
        "results": results,
        "data": _location(spec.data),
        "device": given.device,
        "readers": given.readers,
    }
    if is_on_ray:
        options |= {
            "address": CLUSTER,
            "workers": given.workers,
            "parallelism": given.parallelism,
            "cpus_per_worker": given.cpus_per_worker,
            "gpus_per_worker": given.gpus_per_worker,
        }
    return options


def _local(results: Uri | Path) -> Path:
    """Return the results folder on this node; of a store, a replica with what earlier attempts and jobs recorded."""
    from mcl_ray.results.remote import pull

    if not isinstance(results, Uri):
        return results
    folder = pull.open_replica(results)
    pull.fetch(folder)
    return folder


def _location(text: str) -> Uri | Path:
    return Uri(text) if "://" in text else Path(text)
