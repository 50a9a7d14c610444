"""Several seeds of one configuration, trained side by side, epoch by epoch, so that they can be stopped as one.

What a run is, is `run.py`; what the seeds' figures amount to is `mcl_ray.config.scoring`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress

from mcl_ray.config.scoring import has_enough_seeds
from mcl_ray.errors import MclError, StoreError, TrainingError
from mcl_ray.training.loop import Told

RunIterator = Generator[Told, None, None]


def run_in_lockstep(runs: Sequence[RunIterator]) -> Generator[list[Told], None, None]:
    """Yield what every living run tells of an epoch, once all of them have finished it.

    Runs that are ahead, since they resume from a later epoch, wait for the others. A run that fails is left out while
    more than half of the runs live. Closing this generator stops the runs; an error that is none of ours ends them all,
    and so do results that cannot be written.

    Raises:
        MclError: the only run failed, or half of the runs; or what any of them did could not be written.
    """
    living, failures = list(runs), list[MclError]()
    try:
        epoch = 0
        while True:
            told = _next_epoch(living, epoch + 1, failures)
            if failures and not has_enough_seeds(len(living), len(runs)):
                raise _too_few(failures, len(runs))
            if not told:
                return
            epoch = told[0].report.epoch
            yield told
    except Exception as error:
        of_a_run = isinstance(error, MclError) and not isinstance(error, StoreError)
        for run in [] if of_a_run else living:
            with suppress(type(error), StopIteration):
                run.throw(error)
        raise
    finally:
        for run in living:
            run.close()


def _next_epoch(living: list[RunIterator], epoch: int, failures: list[MclError]) -> list[Told]:
    """Bring every living run to the same epoch, `epoch` or a later one that one of them resumes from."""
    heads: dict[int, Told] = {}
    while True:
        behind = [run for run in living if id(run) not in heads or heads[id(run)].report.epoch < epoch]
        if not behind:
            return [heads[id(run)] for run in living]
        for run in behind:
            try:
                heads[id(run)] = next(run)
            except StopIteration:
                return []  # all runs train for equally many epochs
            except StoreError:
                raise
            except MclError as error:
                living.remove(run)
                failures.append(error)
        epoch = max([epoch, *(heads[id(run)].report.epoch for run in living if id(run) in heads)])


def _too_few(failures: Sequence[MclError], num_runs: int) -> MclError:
    if num_runs == 1:
        return failures[0]
    reasons = "; ".join(dict.fromkeys(map(str, failures)))
    return TrainingError(f"more than half of the seeds must live, but {len(failures)} of {num_runs} failed: {reasons}")
