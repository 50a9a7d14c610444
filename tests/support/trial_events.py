"""Events of trials, as callbacks receive them."""

from __future__ import annotations

from mcl_ray.callbacks import TrialEnd, TrialInfo, TrialResult


def info(number, **point) -> TrialInfo:
    """Trial `number` at a point."""
    return TrialInfo(trial_id=f"{number:04d}", point=point)


def result(score, *, mean=None, std=0.0, n=1, epoch=3, **costs) -> TrialResult:
    """A result with its score as mean, unless another is given."""
    return TrialResult(epoch=epoch, score=score, mean=score if mean is None else mean, std=std, n=n, costs=costs)


def finished(score, *, epoch=3, **figures) -> TrialEnd:
    """End of a trial that trained to its last epoch."""
    return TrialEnd(state="finished", result=result(score, epoch=epoch, **figures))


def stopped(score, *, epoch=1, **figures) -> TrialEnd:
    """End of a trial that the scheduler stopped."""
    return TrialEnd(state="stopped", result=result(score, epoch=epoch, **figures))


def failed(error="NonFiniteLossError: …", *, process_died=False) -> TrialEnd:
    """End of a trial that failed."""
    return TrialEnd(state="failed", error=error, process_died=process_died)
