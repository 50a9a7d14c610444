"""Groups of workers that train a run, or a trial of a sweep, under Ray Train.

Ray starts the workers, connects them, and restarts them when one dies. Checkpoints and records are ours, so a restarted
group, maybe with fewer workers, resumes from them. What a worker does is `train_worker.py`; `run_on_ray.py` and
`tune_trainable.py` use groups; what fits on the nodes is `cluster/connect.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
from ray.exceptions import RayActorError

from mcl_ray.errors import MclError, TrainingError, WorkerDiedError
from mcl_ray.results.remote.pull import ray_storage, remove
from trainables.process_group import ProcessGroupConfig, resources_given_back
from trainables.train_worker import RankLocalError

START_TIMEOUT_VARIABLE = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
"""Variable of the time that Ray Train waits for resources before it tries again to start a group."""
FIXED_START_TIMEOUT_S = 86400
"""Its value for a group of fixed size. What can never fit was refused before, and Ray's default of a minute is short
for a node that is replaced."""
ELASTIC_START_TIMEOUT_S, ELASTIC_START_TRIES = 30, 120
"""Its value and the number of tries for an elastic group, which asks for as many workers as Ray believes to fit. Ray
does not notice a lost node at once, so that the first try waits for what is lost; the next asks for what is left."""

RESTARTS = 3
"""Number of times that a group is restarted, from its last checkpoint, before its run or trial counts as failed."""
RAY_FOLDER = "ray"
"""Folder of Ray Train's own files, below the folder of the run or sweep; removed at the end."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """A group of workers that share every batch."""

    fewest: int
    most: int
    """If larger than `fewest`, the group is elastic: it starts with as many workers as fit, and continues with those
    that are left."""
    bundle: Mapping[str, float]
    """Resources that Ray reserves for each worker."""

    def __str__(self) -> str:
        many = f"{self.most} worker{'s' if self.most > 1 else ''}"
        return many if self.fewest == self.most else f"{self.fewest} to {many}"

    def train(self, work: Callable[[], None], folder: Path, name: str) -> None:
        """Call `work` in every worker, and return when all calls have; a call must resume where an earlier one ended.

        Args:
            work: Function that each worker calls, in a process group of torch.
            folder: Folder below which Ray writes its own files.
            name: Ray's name of the group, unique among those that train at the same time.

        Raises:
            MclError: the first that a worker raised; or workers died, or failed in other ways, more than `RESTARTS`
                times; or what leads the group died.
        """
        gpus, is_fixed = self.bundle.get("GPU", 0), self.fewest == self.most
        train: Any = ray.train  # its types are still those of an older version
        trainer = ray.train.torch.TorchTrainer(
            work,
            torch_config=ProcessGroupConfig(backend="cpu:gloo,cuda:nccl" if gpus else "gloo", group=name),
            scaling_config=train.ScalingConfig(
                num_workers=self.fewest if is_fixed else (self.fewest, self.most),
                use_gpu=bool(gpus),
                resources_per_worker={name: amount for name, amount in self.bundle.items() if amount},
            ),
            run_config=train.RunConfig(
                name=name,
                **ray_storage(folder / RAY_FOLDER),
                callbacks=[_EndAtOwnErrors()],
                failure_config=train.FailureConfig(
                    max_failures=RESTARTS, controller_failure_limit=RESTARTS if is_fixed else ELASTIC_START_TRIES
                ),
            ),
        )
        timeout_s = FIXED_START_TIMEOUT_S if is_fixed else ELASTIC_START_TIMEOUT_S
        try:
            with _default_variable(START_TIMEOUT_VARIABLE, str(timeout_s)), resources_given_back(name):
                trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise _reason(error) from error
        except RayActorError as error:
            raise WorkerDiedError(
                "the process that leads a group of workers must run until its end, but went away: killed, or its node "
                "lost"
            ) from error
        finally:
            remove([folder / RAY_FOLDER / name])


class _EndAtOwnErrors(ray.train.UserCallback):
    """Ends a group at the first error that a restart would not cure; a restart cures the loss of a worker."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for error in worker_exceptions.values():
            cause = error.error if isinstance(error, RankLocalError) else error
            if isinstance(cause, MclError) and not isinstance(cause, WorkerDiedError):
                raise cause


@contextmanager
def _default_variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable unless the user has: Ray Train reads it for each group."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)


def _reason(error: ray.train.TrainingFailedError) -> MclError:
    """Convert the error by which a group failed to one of ours."""
    if isinstance(error, ray.train.ControllerError):
        cause = error.controller_failure
        if isinstance(cause, MclError):
            return cause
        return TrainingError(f"Ray Train must be able to run a group of workers, but: {cause}")
    if not isinstance(error, ray.train.WorkerGroupError):
        return TrainingError(str(error))
    failures = {
        rank: getattr(failure, "health_check_failure", failure) for rank, failure in error.worker_failures.items()
    }
    prefix = f"a group is restarted at most {RESTARTS} times, but after that"
    for rank, failure in failures.items():  # the others failed because they lost this worker
        if isinstance(failure, RayActorError):
            return WorkerDiedError(f"{prefix} the process of worker {rank} went away: killed, or its node lost")
    rank, failure = min(failures.items())
    return TrainingError(f"{prefix} worker {rank} failed: {type(failure).__name__}: {failure}")
