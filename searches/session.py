"""A sweep from beginning to end: checked, run, scored once on the test split, ranked and reported."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from mcl_ray.data.dataset import Dataset
from mcl_ray.data.sampling import check_batches
from mcl_ray.data.source import dataset_for
from mcl_ray.environment import Environment
from mcl_ray.errors import SpecError, StoreError
from mcl_ray.overrides import replace, validate
from mcl_ray.results.store import SweepWriter, check_writable, ensure_writable, read_sweeps
from searches.spec import SweepSpec


@dataclass(frozen=True)
class SweepSession:
    """Where and with what sweeps are run."""

    environment: Environment
    cpus_per_trial: int
    gpus_per_trial: float | None
    console: Console

    def start(self, sweep: SweepSpec) -> None:
        """Run a new sweep.

        Raises:
            UserError: the data or the results folder cannot serve; nothing has been written.
        """
        self._check_machine()
        check_writable(self.environment.results)
        dataset = dataset_for(sweep.run, self.environment.data, download=self.environment.download)
        self._check_batches(sweep, dataset)
        ensure_writable(self.environment.results)
        from mcl_ray.training.run import machine_facts

        writer = SweepWriter.create(
            self.environment.results,
            sweep.name,
            sweep,
            objective=sweep.objective,
            mode="max",
            trials_planned=sweep.trials,
            facts=machine_facts(self.environment),
        )
        self._run(sweep, dataset, writer)

    def resume(self, sweep_id: str) -> None:
        """Go on with an interrupted sweep.

        Raises:
            StoreError: there is no such sweep, or it is finished.
        """
        folder = self.environment.results / "sweeps" / sweep_id
        if not folder.is_dir():
            known = sorted(path.name for path in folder.parent.glob("*")) if folder.parent.is_dir() else []
            raise StoreError(
                f"only a sweep that was begun can be resumed: {folder.parent} holds {known or 'none'}, not {sweep_id}"
            )
        (row,) = read_sweeps(folder).to_pylist()
        sweep = validate(SweepSpec, json.loads(row["spec"]))
        if row["state"] == "finished":
            self.console.print(f"nothing left to do: {folder} is finished")
            return
        from searches.engine import check_resumable

        check_resumable(folder)
        self._check_machine()
        dataset = dataset_for(sweep.run, self.environment.data)
        self._run(sweep, dataset, SweepWriter.resume(folder))

    def print_plan(self, sweep: SweepSpec) -> None:
        """Print the resolved search and what it would do."""
        from searches.plan import print_sweep_plan

        print_sweep_plan(sweep, self.environment, self.cpus_per_trial, self.console)

    def _check_machine(self) -> None:
        """A trial that asks for more than there is would wait for ever.

        Raises:
            SpecError: this machine has too few CPU cores or GPUs for one trial, or not the device that was asked for.
        """
        cores = os.cpu_count() or 1
        gpus, device = self.gpus_per_trial, self.environment.device
        if self.cpus_per_trial > cores:
            raise SpecError(f"a trial needs {self.cpus_per_trial} CPU cores, but this machine has {cores}")
        if ":" in device:
            raise SpecError(
                f"Ray gives each trial its GPU, so the device of a sweep is auto, cpu or cuda, but got {device}"
            )
        if gpus is not None and gpus > 1 and gpus % 1:
            raise SpecError(f"gpus_per_trial is at most 1 or a whole number, but got {gpus}")
        if (device == "cuda" and gpus == 0) or (device == "cpu" and gpus):
            raise SpecError(f"trials have GPUs if they train on them, but got device={device}, gpus_per_trial={gpus}")
        if gpus or device == "cuda":
            import torch

            if (gpus or 1) > torch.cuda.device_count():
                raise SpecError(f"a trial needs {gpus or 1} GPUs, but this machine has {torch.cuda.device_count()}")

    def _check_batches(self, sweep: SweepSpec, dataset: Dataset) -> None:
        """Searched batches are checked as the run's own are.

        Raises:
            SpecError: the sampler cannot make such batches of these images.
        """
        counts = np.bincount(dataset.train.labels)
        for path, dimension in sweep.space.items():
            for value in dimension.ends() if path.startswith("batch.") else ():
                check_batches(counts, replace(sweep.run, {path: value}).batch)

    def _run(self, sweep: SweepSpec, dataset: Dataset, writer: SweepWriter) -> None:
        self.console.print(f"sweep {writer.sweep_id}: {sweep.trials} trials, in {writer.folder}", soft_wrap=True)
        self.console.print("starting Ray (about 10 s)")
        from searches.engine import TrialResources, run_trials
        from searches.verdict import conclude

        resources = TrialResources(cpus=self.cpus_per_trial, gpus=self.gpus_per_trial)
        with writer:
            if not run_trials(sweep, self.environment, resources, writer, self.console):
                writer.finish("interrupted")
                command = self._resume_command(writer.sweep_id)
                self.console.print(f"interrupted; to go on:\n  {command}", soft_wrap=True)
                raise KeyboardInterrupt
            conclude(sweep, dataset, self.environment, writer, self.console)
            writer.finish("finished")

    def _resume_command(self, sweep_id: str) -> str:
        """What to type to go on as now."""
        words = ["python", "-m", "mcl_ray.sweep", "--resume", sweep_id]
        places = {"--results": self.environment.results, "--data": self.environment.data}
        for option, place in places.items():
            if place != Path(option.removeprefix("--")).absolute():
                words += [option, str(place)]
        settings = {"--device": (self.environment.device, "auto"), "--cpus-per-trial": (self.cpus_per_trial, 1)}
        settings["--gpus-per-trial"] = (self.gpus_per_trial or 0, 0)
        for option, (value, default) in settings.items():
            if value != default:
                words += [option, str(value)]
        return shlex.join(words)
