"""Several runs of one process, whose epochs are trained in joint steps; a run by itself can have them for its peers.

Each run keeps its own cohort, optimizer, method, random streams and record: only the operations of a step are shared.
A run trains the same numbers as alone, within the arithmetic, so that it can leave the others, fail, or be resumed
alone or with others after any epoch.

K runs, B images.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch

from mcl_ray.callbacks import RunCallback
from mcl_ray.cohort import CohortOutput
from mcl_ray.distributed import world_size
from mcl_ray.methods.method import Batch, OnePassMethod, StepLosses
from mcl_ray.training.allocator import keep_freed_memory
from mcl_ray.training.cohort_stack import CohortStack
from mcl_ray.training.epoch import Epoch, step_alone, train_alone
from mcl_ray.training.run_state import RunState
from mcl_ray.training.stacked_optimizers import StackedOptimizers

Figures = dict[str, float]
"""Metric of an epoch's training → its value."""
T = TypeVar("T")

TOLERANCE = 1e-3
"""Greatest relative difference between the outputs of networks that are computed together and alone."""

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Member:
    """A run, and what it has not yet asked for."""

    run: RunState
    callbacks: Sequence[RunCallback]
    epoch: int
    """The next epoch to train, from 0."""
    outcome: Figures | Exception | None = None
    """The figures of the epoch before `epoch`, or the error that ended it, until the run asks for it."""

    @cached_property
    def key(self) -> Hashable:
        """What must be equal for joint steps; None if the run can have none."""
        method, spec = self.run.method, self.run.spec
        if not isinstance(method, OnePassMethod) or world_size() > 1:
            return None
        images = spec.data, spec.augmentation, spec.batch.size, self.run.sampler.num_batches, self.run.shards
        return type(method), spec.compute, str(self.run.device), frozenset(self.run.cohort.names), images

    @property
    def has_stacked_peers(self) -> bool:
        """Whether the run alone has joint steps of its own peers."""
        return self.run.spec.compute.peers == "stacked"

    @property
    def is_due(self) -> bool:
        """Whether its next epoch may be trained."""
        return self.outcome is None and self.epoch < self.run.spec.schedule.epochs

    @property
    def one_pass(self) -> OnePassMethod:
        """The method of the run, which has a key."""
        assert isinstance(self.run.method, OnePassMethod)
        return self.run.method

    def next_epoch(self) -> Epoch:
        """Return the next epoch, which then counts as trained."""
        self.epoch += 1
        return Epoch(self.run, self.epoch - 1, self.callbacks)


class Pack:
    """Runs that are trained together as far as they are alike.

    When one run asks for its next epoch, those of all alike runs that are due are trained. A run is due if it has asked
    for all that was trained of it, so that none is more than one epoch ahead.
    """

    def __init__(self) -> None:
        self._members: list[_Member] = []
        self._stackable: dict[Hashable, bool] = {}

    @contextmanager
    def joined(self, run: RunState, epoch: int, callbacks: Sequence[RunCallback]) -> Iterator[Callable[[], Figures]]:
        """Let a run take part, and yield the function that trains its next epoch and returns the figures.

        Args:
            run: the run.
            epoch: the epoch that it trains next, from 0.
            callbacks: as for `Epoch`.
        """
        member = _Member(run, callbacks, epoch)
        self._members.append(member)
        try:
            yield lambda: self._train(member)
        finally:
            self._members.remove(member)

    def _train(self, member: _Member) -> Figures:
        if member.outcome is None:
            due = self._due_with(member)
            if len(due) == 1 and not (member.has_stacked_peers and self._is_stackable(member)):
                return train_alone(member.next_epoch())
            _JointEpoch(due).train()
        outcome, member.outcome = member.outcome, None
        if isinstance(outcome, Exception):
            raise outcome
        assert outcome is not None, "an epoch ends with its figures or with an error"
        return outcome

    def _due_with(self, member: _Member) -> list[_Member]:
        """Return the members, this one among them, whose next epochs are trained together."""
        if len(self._members) == 1 or member.key is None:
            return [member]
        alike = [other for other in self._members if other.key == member.key and other.is_due]
        return alike if self._is_stackable(member) else [member]

    def _is_stackable(self, member: _Member) -> bool:
        if member.key not in self._stackable:
            self._stackable[member.key] = _can_be_stacked(member.run)
        return self._stackable[member.key]


def steps_of(runs: Sequence[RunState]) -> Iterator[None]:
    """Train the first epoch of alike runs, in joint steps if there are several, and yield after each step.

    For measurements: nothing is recorded. Networks that cannot be stacked raise an error of torch.
    """
    members = [_Member(run, (), epoch=0) for run in runs]
    if len(members) > 1 or members[0].has_stacked_peers:
        yield from _JointEpoch(members).steps()
        return
    epoch = members[0].next_epoch()
    for batch in epoch.batches():
        step_alone(epoch, batch)
        yield


def can_share_steps(run: RunState) -> bool:
    """Return whether the run can be trained in joint steps with alike ones."""
    return _Member(run, (), epoch=0).key is not None and _can_be_stacked(run)


def _can_be_stacked(run: RunState) -> bool:
    """Return whether the run's networks compute the same together as alone; torch.vmap lacks some operations."""
    generator = torch.Generator(run.device).manual_seed(0)
    images = torch.randn(2, 4, *run.image_shape, generator=generator, device=run.device)
    alone, together = ([copy.deepcopy(run.cohort) for _ in images] for _ in range(2))
    try:
        with torch.no_grad():
            outputs = CohortStack(together)(list(images))
            expected = [cohort(own) for cohort, own in zip(alone, images, strict=True)]
        return all(map(_is_close, outputs, expected))
    except Exception as error:  # what torch lacks, it says with errors of many types
        names = " + ".join(run.cohort.names)
        _log.warning("networks of %s cannot be trained together, since torch.vmap refuses them: %s", names, error)
        return False


def _is_close(output: CohortOutput, expected: CohortOutput) -> bool:
    pairs = zip(output, expected, strict=True)
    return all(float((a - b).norm()) <= TOLERANCE * float(b.norm()) for a, b in pairs)


class _JointEpoch:
    """The next epochs of K members, trained in joint steps; a run that fails leaves the others.

    Args:
        members: the members, alike; each receives its outcome.
    """

    def __init__(self, members: Sequence[_Member]) -> None:
        self._epochs = {member: member.next_epoch() for member in members}
        self._batches = {member: epoch.batches() for member, epoch in self._epochs.items()}
        self._steps = members[0].run.sampler.num_batches
        self._stack: CohortStack | None = None
        keep_freed_memory()

    def train(self) -> None:
        """Train all steps."""
        try:
            for _ in self.steps():
                pass
        except Exception as error:  # of all of them, such as too little memory
            for member in self._epochs:
                member.outcome = error
            return
        for member, figures in self._each(lambda member: self._epochs[member].end()).items():
            member.outcome = figures

    def steps(self) -> Iterator[None]:
        """Train one step after another; closing the iterator ends the joint steps."""
        try:
            for _ in range(self._steps):
                self._step()
                yield
        finally:
            self._release()

    def _step(self) -> None:
        batches = self._each(lambda member: next(self._batches[member]))
        if not batches:
            return
        if self._stack is None:
            self._stack = CohortStack([member.run.cohort for member in batches])
            self._optimizers = StackedOptimizers(self._stack, [member.run.optimizer for member in batches])
        losses = _losses(batches, self._stack)
        torch.stack([own.total for own in losses.values()]).sum().backward()  # type: ignore[no-untyped-call]
        self._optimizers.step()
        self._each(lambda member: self._epochs[member].end_step(losses[member]))

    def _each(self, act: Callable[[_Member], T]) -> dict[_Member, T]:
        """Return what `act` returns for each member; one for which it raises an error leaves with it."""
        results = dict[_Member, T]()
        for member in [*self._epochs]:
            try:
                results[member] = act(member)
            except Exception as error:
                member.outcome = error
                del self._epochs[member]
                self._release()
        return results

    def _release(self) -> None:
        if self._stack is not None:
            self._optimizers.release()
            self._stack.release()
            self._stack = None


def _losses(batches: Mapping[_Member, Batch], stack: CohortStack) -> dict[_Member, StepLosses]:
    """Return each member's losses of its batch; the networks run together, and the losses as far as they are alike."""
    methods = [member.one_pass for member in batches]
    images = [method.peer_images(batch) for method, batch in zip(methods, batches.values(), strict=True)]
    with torch.autocast(images[0].device.type, dtype=torch.bfloat16, enabled=methods[0].bf16):
        outputs = stack(images)
    outputs = [CohortOutput(output.logits.float(), output.embeddings) for output in outputs]
    losses = type(methods[0]).losses_of_runs(methods, [*batches.values()], outputs)
    return dict(zip(batches, losses, strict=True))
