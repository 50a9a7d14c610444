from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import v2

from mcl_ray.data.augment import Augment, epoch_generator

MEAN, STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
SHAPES = [(16, 3, 32, 32), (9, 3, 5, 11), (1, 3, 8, 3)]


def images_of(*shape: int) -> Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def generator_of(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_by_one(images: Tensor, seed: int, padding: int, flip: bool) -> Tensor:
    """Each image laid on black, cut out, mirrored; the offsets drawn as `Augment` draws them."""
    generator = generator_of(seed)
    size, channels, height, width = images.shape
    edges = torch.randint(2 * padding + 1, (2, size), generator=generator)
    mirrored = torch.randint(2, (size,), generator=generator, dtype=torch.bool)
    crops = []
    for number, image in enumerate(images):
        canvas = torch.zeros(channels, height + 2 * padding, width + 2 * padding, dtype=torch.uint8)
        canvas[:, padding : padding + height, padding : padding + width] = image
        top, left = edges[:, number].tolist()
        crop = canvas[:, top : top + height, left : left + width]
        crops.append(crop.flip(-1) if flip and mirrored[number] else crop)
    return torch.stack(crops)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("flip", [False, True])
def test_a_batch_at_once_is_image_by_image(shape: tuple[int, ...], padding: int, flip: bool) -> None:
    images, augment = images_of(*shape), Augment(MEAN, STD, padding, flip)
    for seed in range(3):
        expected = augment.normalise(one_by_one(images, seed, padding, flip))
        assert torch.equal(augment(images, generator_of(seed)), expected)


def test_normalisation_is_torchvisions() -> None:
    images = images_of(4, 3, 8, 8)
    expected = v2.functional.normalize(images.float() / 255, MEAN, STD)
    torch.testing.assert_close(Augment(MEAN, STD).normalise(images), expected, rtol=1e-5, atol=1e-6)


def test_padding_is_black_before_normalisation() -> None:
    white = torch.full((64, 3, 6, 6), 255, dtype=torch.uint8)
    values = Augment(MEAN, STD, 4)(white, generator_of())
    for channel, (mean, std) in enumerate(zip(MEAN, STD, strict=True)):
        found = values[:, channel].unique()
        torch.testing.assert_close(found, torch.tensor([-mean / std, (1 - mean) / std]))


def test_every_offset_and_both_sides_are_as_likely() -> None:
    images = torch.zeros(9 * 9 * 2 * 200, 1, 9, 9, dtype=torch.uint8)
    images[:, 0, 4, 4], images[:, 0, 4, 5] = 100, 200
    values = Augment((0.0,), (1.0,), 4, flip=True)(images, generator_of())
    bright = (values > 0.5).flatten(1)
    centre = ((values > 0.3) & (values < 0.5)).flatten(1).float()
    assert torch.equal(centre.sum(1), torch.ones(len(images)))
    shares = centre.mean(0) * 81
    torch.testing.assert_close(shares, torch.ones(81), atol=0.25, rtol=0)
    inside = bright.any(1)
    to_the_right = bright[inside].float().argmax(1) > centre[inside].argmax(1)
    assert to_the_right.float().mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("sizes", [(12, 12), (9, 9, 6), (23, 1)])
def test_workers_together_are_one(sizes: tuple[int, ...]) -> None:
    images, augment = images_of(24, 3, 8, 8), Augment(MEAN, STD, 2, flip=True)
    parts = [
        augment(part, generator_of(), start=sum(sizes[:rank]), whole=24)
        for rank, part in enumerate(images.split(sizes))
    ]
    assert torch.equal(torch.cat(parts), augment(images, generator_of()))


def test_the_generator_moves_on() -> None:
    images, augment, generator = images_of(32, 3, 8, 8), Augment(MEAN, STD, 4), generator_of()
    first = augment(images, generator)
    state = generator.get_state()
    second = augment(images, generator)
    assert not torch.equal(first, second)
    generator.set_state(state)
    assert torch.equal(augment(images, generator), second)


def test_images_and_values_are_left_alone() -> None:
    images = images_of(8, 3, 8, 8)
    before = images.clone()
    augment = Augment(MEAN, STD, 2, flip=True)
    augment.normalise(images).zero_()
    augment(images, generator_of()).zero_()
    assert torch.equal(images, before)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("given_channels_last", [False, True])
def test_memory_format_changes_no_number(channels_last: bool, given_channels_last: bool) -> None:
    images = images_of(8, 3, 8, 8)
    expected = Augment(MEAN, STD, 2, flip=True)(images, generator_of())
    if given_channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    augment = Augment(MEAN, STD, 2, flip=True, channels_last=channels_last)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    for found in (augment(images, generator_of()), augment.normalise(images)):
        assert found.dtype == torch.float32
        assert found.is_contiguous(memory_format=memory_format)
    assert torch.equal(augment(images, generator_of()), expected)


def test_one_channel() -> None:
    augment = Augment((0.3,), (0.4,), 1)
    images = images_of(5, 1, 8, 8)
    assert torch.equal(augment(images, generator_of()), augment.normalise(one_by_one(images, 0, 1, flip=False)))


class Recorder(TorchDispatchMode):
    """Names of the operations that run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> object:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


def test_nothing_is_read_back_and_nothing_grows_with_the_batch() -> None:
    augment = Augment(MEAN, STD, 4, flip=True, channels_last=True)
    counts = []
    for size in (2, 64):
        with Recorder() as recorder:
            augment(images_of(size, 3, 8, 8), generator_of())
        waiting = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "lift_fresh")
        assert not [name for name in recorder.names if any(name.startswith(f"aten::{word}") for word in waiting)]
        counts.append(len(recorder.names))
    assert counts[0] == counts[1]


def test_generators_of_epochs() -> None:
    cpu = torch.device("cpu")

    def draws(seed: int, epoch: int) -> list[int]:
        return torch.randint(10**9, (4,), generator=epoch_generator(seed, epoch, cpu)).tolist()

    assert draws(1, 2) == draws(1, 2)
    assert len({tuple(draws(seed, epoch)) for seed in range(20) for epoch in range(20)}) == 400
