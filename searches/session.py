"""A sweep from beginning to end: checked, run, scored once on the test split, ranked and reported."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from mcl_ray.data.dataset import Dataset
from mcl_ray.data.source import dataset_for
from mcl_ray.environment import Environment
from mcl_ray.errors import SpecError, StoreError
from mcl_ray.overrides import validate
from mcl_ray.results.store import SweepWriter, ensure_writable, read_sweeps
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
        dataset = dataset_for(sweep.run, self.environment.data, download=self.environment.download)
        ensure_writable(self.environment.results)
        writer = SweepWriter.create(
            self.environment.results,
            sweep.name,
            sweep,
            objective=sweep.objective,
            mode="max",
            trials_planned=sweep.trials,
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
            self.console.print(f"nothing left to do: all {sweep.trials} trials of {folder} are done")
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
        if self.cpus_per_trial > cores:
            raise SpecError(f"a trial needs {self.cpus_per_trial} CPU cores, but this machine has {cores}")
        if self.gpus_per_trial or self.environment.device.startswith("cuda"):
            from mcl_ray.training.placement import choose_device

            choose_device(self.environment.device)
            import torch

            if (self.gpus_per_trial or 0) > torch.cuda.device_count():
                raise SpecError(
                    f"a trial needs {self.gpus_per_trial} GPUs, but this machine has {torch.cuda.device_count()}"
                )

    def _run(self, sweep: SweepSpec, dataset: Dataset, writer: SweepWriter) -> None:
        self.console.print(f"sweep {writer.sweep_id}: {sweep.trials} trials, in {writer.folder}", soft_wrap=True)
        self.console.print("starting Ray (about 10 s)")
        from searches.engine import TrialResources, run_trials
        from searches.verdict import conclude

        resources = TrialResources(cpus=self.cpus_per_trial, gpus=self.gpus_per_trial)
        with writer:
            if not run_trials(sweep, self.environment, resources, writer, self.console):
                writer.finish("interrupted")
                command = f"python -m mcl_ray.sweep --resume {writer.sweep_id} {self._where()}"
                self.console.print(f"interrupted; to go on:\n  {command.strip()}", soft_wrap=True)
                raise KeyboardInterrupt
            conclude(sweep, dataset, self.environment, writer, self.console)
            writer.finish("finished")

    def _where(self) -> str:
        places = {"results": self.environment.results, "data": self.environment.data}
        return " ".join(f"--{name} {place}" for name, place in places.items() if place != Path(name).absolute())
