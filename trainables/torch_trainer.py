"""Groups: workers that train a run, or a configuration of a sweep, together under Ray Train.

Ray starts the workers, joins them, and starts them again when one dies. Checkpoints and records are ours, so a group
that was started again, maybe with fewer workers, goes on from them. What workers do is `worker.py`; who has groups is
`terminal.py` and `group_trial.py`; what they fit on is `cluster.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
from ray.exceptions import RayActorError

from mcl_ray.errors import MclError, TrainingError, WorkerDiedError
from mcl_ray.results.remote.pull import ray_storage, remove
from trainables.train_worker import RankLocalError

# Ray Train reads these where it starts a group. Without the first, the dashboard knows of none. A group hands over one
# report at each look, and an epoch may be shorter than Ray's two seconds.
os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "1")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
ROOM_WAIT_S = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
FIXED_WAITS_S = 86400
"""How long a group whose place is taken, or was lost with a node, waits for another: what can never fit was refused
before, and Ray's own minute is short for a node that is to come back."""
RANGE_WAITS_S, RANGE_TRIES = 30, 120
"""A range asks for as many workers as Ray believes there is room for. Of a node that was just lost Ray does not know at
once, so that the first try waits for what is gone; and then it asks for what is left."""

RESTARTS = 3
"""How often a group is started again, from its last checkpoint, before what it trains counts as failed."""
RAY_FOLDER = "ray"
"""Where Ray Train keeps notes that nobody reads: below the folder of what is trained, removed in the end."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Workers that share every batch."""

    fewest: int
    most: int
    """More than `fewest`: the group starts with as many as there is room for, and goes on with those that are left."""
    bundle: Mapping[str, float]
    """What Ray reserves for each worker."""

    def __str__(self) -> str:
        many = f"{self.most} worker{'s' if self.most > 1 else ''}"
        return many if self.fewest == self.most else f"{self.fewest} to {many}"

    def train(self, work: Callable[[], None], folder: Path, name: str) -> None:
        """Have every worker do `work`, and return once all have; it must go on where an earlier attempt ended.

        Args:
            work: What each worker calls, in a process group of torch.
            folder: Below it Ray has its notes.
            name: What Ray calls the group; no two at a time have the same.

        Raises:
            MclError: the first that a worker raised; or workers died, or failed in other ways, more than `RESTARTS`
                times.
        """
        gpus, is_fixed = self.bundle.get("GPU", 0), self.fewest == self.most
        os.environ.setdefault(ROOM_WAIT_S, str(FIXED_WAITS_S if is_fixed else RANGE_WAITS_S))
        train: Any = ray.train  # its types are still those of an older version
        trainer = ray.train.torch.TorchTrainer(
            work,
            torch_config=ray.train.torch.TorchConfig(backend="cpu:gloo,cuda:nccl" if gpus else "gloo"),
            scaling_config=train.ScalingConfig(
                num_workers=self.fewest if is_fixed else (self.fewest, self.most),
                use_gpu=bool(gpus),
                resources_per_worker={name: amount for name, amount in self.bundle.items() if amount},
            ),
            run_config=train.RunConfig(
                name=name,
                **ray_storage(folder / RAY_FOLDER),
                callbacks=[_EndsAtOwnErrors()],
                failure_config=train.FailureConfig(
                    max_failures=RESTARTS, controller_failure_limit=RESTARTS if is_fixed else RANGE_TRIES
                ),
            ),
        )
        try:
            trainer.fit()
        except ray.train.TrainingFailedError as error:
            raise _reason(error) from error
        finally:
            remove([folder / RAY_FOLDER / name])


class _EndsAtOwnErrors(ray.train.UserCallback):
    """Ends a group at the first error that it would meet again; the loss of a worker is none of these."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        for error in worker_exceptions.values():
            ours = error.error if isinstance(error, RankLocalError) else error
            if isinstance(ours, MclError) and not isinstance(ours, WorkerDiedError):
                raise ours


def _reason(error: ray.train.TrainingFailedError) -> MclError:
    """What a group failed of, as an error of ours."""
    if isinstance(error, ray.train.ControllerError):
        cause = error.controller_failure
        return cause if isinstance(cause, MclError) else TrainingError(f"a group must be able to run, but: {cause}")
    if not isinstance(error, ray.train.WorkerGroupError):
        return TrainingError(str(error))
    failures = {rank: getattr(one, "health_check_failure", one) for rank, one in error.worker_failures.items()}
    again = f"a group is started again {RESTARTS} times, but then"
    for rank, failure in failures.items():  # the others failed for want of it
        if isinstance(failure, RayActorError):
            return WorkerDiedError(f"{again} the process of worker {rank} went away: killed, or its node lost")
    rank, failure = min(failures.items())
    return TrainingError(f"{again} worker {rank} failed: {type(failure).__name__}: {failure}")
