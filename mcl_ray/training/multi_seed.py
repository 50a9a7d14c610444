"""Several seeds of one configuration, trained side by side, epoch by epoch, so that they can be stopped as one.

One seed's run is `recorded_run.py`; how the seeds' figures make a score is `mcl_ray.config.scoring`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress

from mcl_ray.callbacks import EpochEnd
from mcl_ray.config.scoring import has_enough_seeds
from mcl_ray.errors import MclError, StoreError, TrainingError

RunIterator = Generator[EpochEnd, None, None]


def run_in_lockstep(runs: Sequence[RunIterator]) -> Generator[list[EpochEnd], None, None]:
    """Yield every active run's event of an epoch, once all of them have finished it.

    Runs of a pack that start anew begin with epoch 0, which has no figures, see `iter_epochs`. Runs that are ahead,
    since they resume from a later epoch, wait for the others. A run that fails is left out while more than half of the
    runs are active. Closing this generator closes the runs. An error that is not an MclError ends all of them, and so
    does a StoreError.

    Raises:
        MclError: the only run failed, or half of the runs did; or a result could not be written.
    """
    active, failures = list(runs), list[MclError]()
    try:
        epoch = -1
        while True:
            ends = _next_epoch(active, epoch + 1, failures)
            if failures and not has_enough_seeds(len(active), len(runs)):
                raise _too_few(failures, len(runs))
            if not ends:
                return
            epoch = ends[0].epoch
            yield ends
    except Exception as error:
        is_of_a_run = isinstance(error, MclError) and not isinstance(error, StoreError)
        for run in [] if is_of_a_run else active:
            with suppress(type(error), StopIteration):
                run.throw(error)
        raise
    finally:
        for run in active:
            run.close()


def _next_epoch(active: list[RunIterator], epoch: int, failures: list[MclError]) -> list[EpochEnd]:
    """Bring every active run to the same epoch: `epoch`, or a later one that one of them resumes from."""
    latest: dict[int, EpochEnd] = {}
    while True:
        behind = [run for run in active if id(run) not in latest or latest[id(run)].epoch < epoch]
        if not behind:
            return [latest[id(run)] for run in active]
        for run in behind:
            try:
                latest[id(run)] = next(run)
            except StopIteration:
                return []  # all runs train for equally many epochs
            except StoreError:
                raise
            except MclError as error:
                active.remove(run)
                failures.append(error)
        epoch = max([epoch, *(latest[id(run)].epoch for run in active if id(run) in latest)])


def _too_few(failures: Sequence[MclError], num_runs: int) -> MclError:
    if num_runs == 1:
        return failures[0]
    reasons = "; ".join(dict.fromkeys(map(str, failures)))
    return TrainingError(
        f"`failed seeds < seeds / 2` must hold, but {len(failures)} of {num_runs} seeds failed: {reasons}"
    )
