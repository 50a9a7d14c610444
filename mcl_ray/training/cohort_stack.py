"""Several cohorts as one network: peers of one architecture, of whatever cohort, are computed together.

K cohorts, N peers of a cohort, M modules of a stack, B images. A slot is one of the places of a list that has those of
all cohorts, one cohort after another.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate, chain

import torch
from torch import Tensor, nn

from mcl_ray.cohort import Cohort, CohortOutput
from mcl_ray.models.stacked import ModuleStack, StackedTensor, likeness


class CohortStack:
    """K cohorts whose outputs are computed together, each for its own images.

    Until `release`, the cohorts' tensors are views of stacked ones, see `ModuleStack`.

    Args:
        cohorts: the cohorts, [K]; their images have one shape.
    """

    def __init__(self, cohorts: Sequence[Cohort]) -> None:
        sizes = [cohort.num_peers for cohort in cohorts]
        self._peers = [range(end - size, end) for end, size in zip(accumulate(sizes), sizes, strict=True)]
        self._stems = _Layer([cohort.stems for cohort in cohorts])
        self._branches = _Layer([cohort.branches for cohort in cohorts])
        self._classifiers = _Layer([cohort.classifiers for cohort in cohorts])
        self._heads = _Layer([cohort.heads for cohort in cohorts])
        self._image_of_stem = [k for k, cohort in enumerate(cohorts) for _ in cohort.stems]
        self._stem_of_peer = _stems_of_peers(cohorts)

    def __call__(self, images_K: Sequence[Tensor]) -> list[CohortOutput]:
        """Return each cohort's output for its images [B, channels, H, W]."""
        every_stem = range(len(self._image_of_stem))
        images = _Values([_joined([images_K[k] for k in self._image_of_stem])], [every_stem])
        maps = self._stems(images, every_stem)
        features = self._branches(maps, self._stem_of_peer)
        every_peer = range(len(self._stem_of_peer))
        logits = self._classifiers(features, every_peer) if self._classifiers else None
        embeddings = self._heads(features, every_peer) if self._heads else None
        return [
            CohortOutput(*(_of_peers(values, peers, features) for values in (logits, embeddings)))
            for peers in self._peers
        ]

    @property
    def parameters(self) -> Iterator[tuple[StackedTensor, list[int]]]:
        """The stacked parameters, which have the gradients, each with its number of slots of every cohort, [K]."""
        return chain.from_iterable(layer.parameters for layer in self._layers)

    def release(self) -> None:
        """Give every cohort tensors of its own again, with the present values."""
        for layer in self._layers:
            layer.release()

    @property
    def _layers(self) -> Sequence[_Layer]:
        return self._stems, self._branches, self._classifiers, self._heads


def _stems_of_peers(cohorts: Sequence[Cohort]) -> list[int]:
    """Return the slot of each peer's stem."""
    found, start = list[int](), 0
    for cohort in cohorts:
        own = range(start, start + len(cohort.stems))
        found += [own[0]] * cohort.num_peers if cohort.shares_stem else own
        start = own.stop
    return found


def _of_peers(values: _Values | None, peers: Sequence[int], features: _Values) -> Tensor:
    """Stack the values of a cohort's peers, [N, B, …]; [N, B, 0] without values."""
    if values is None:
        some = features[peers[0]]
        return some.new_empty(len(peers), len(some), 0)
    return torch.stack([values[peer] for peer in peers])


def _joined(values: Sequence[Tensor]) -> Tensor:
    """Join M values [B, C, …] to [B, M, C, …]; M and C are one axis of the memory, the last of it if C was."""
    joined = torch.cat([*values], 1)
    if joined.ndim == 4 and values[0].is_contiguous(memory_format=torch.channels_last):
        joined = joined.contiguous(memory_format=torch.channels_last)
    return joined.view(len(joined), len(values), -1, *joined.shape[2:])


class _Values:
    """The value [B, …] of each slot, as the stacks computed them.

    Args:
        stacked: the values of each stack, [B, M, …].
        slots: the slots of each stack, [M].
    """

    def __init__(self, stacked: Sequence[Tensor], slots: Sequence[Sequence[int]]) -> None:
        self._stacked, self._slots = stacked, [list(own) for own in slots]

    def __getitem__(self, slot: int) -> Tensor:
        return self._by_slot[slot]

    def of(self, slots: list[int]) -> Tensor:
        """Return the values of these slots: [B, M, …]; those of one stack as they are."""
        if slots in self._slots:
            return self._stacked[self._slots.index(slots)]
        return _joined([self[slot] for slot in slots])

    @cached_property
    def _by_slot(self) -> dict[int, Tensor]:
        # The gradient of unbind is one tensor; that of as many selections would be a whole stack each.
        return {
            slot: value
            for stacked, slots in zip(self._stacked, self._slots, strict=True)
            for slot, value in zip(slots, stacked.unbind(1), strict=True)
        }


class _Layer:
    """The modules of all cohorts that have one part, such as all stems, in as few stacks as possible."""

    def __init__(self, modules_K: Sequence[Iterable[nn.Module]]) -> None:
        alike: dict[Hashable, list[int]] = {}
        listed = [(k, module) for k, modules in enumerate(modules_K) for module in modules]
        for slot, (_, module) in enumerate(listed):
            alike.setdefault(likeness(module), []).append(slot)
        self._slots = list(alike.values())
        self._stacks = [ModuleStack([listed[slot][1] for slot in slots]) for slots in self._slots]
        cohort_of_slot = [[listed[slot][0] for slot in slots] for slots in self._slots]
        self._sizes = [[found.count(k) for k in range(len(modules_K))] for found in cohort_of_slot]

    def __bool__(self) -> bool:
        return bool(self._stacks)

    def __call__(self, values: _Values, sources: Sequence[int]) -> _Values:
        """Return the outputs for inputs among `values`, of which `sources` has the slot of each module's."""
        inputs = [values.of([sources[slot] for slot in slots]) for slots in self._slots]
        outputs = [stack(value) for stack, value in zip(self._stacks, inputs, strict=True)]
        return _Values(outputs, self._slots)

    @property
    def parameters(self) -> Iterator[tuple[StackedTensor, list[int]]]:
        for stack, sizes in zip(self._stacks, self._sizes, strict=True):
            yield from ((parameter, sizes) for parameter in stack.parameters)

    def release(self) -> None:
        for stack in self._stacks:
            stack.release()
